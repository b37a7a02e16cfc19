//! Warnings about regions that differ from a region of AWS in their case only.
//!
//! Regions are case-sensitive. Other stores have regions such as `RegionOne`, so only the form of AWS counts: `eu-central-1`.

use crate::Config;
use crate::schema::Section;

pub(super) fn find(root: &mut Section<'_>, config: &Config) {
    check(&mut root.child("s3"), "region", &config.s3.region);
    for (name, bucket) in &config.buckets {
        check(&mut root.within(&["buckets", name, "s3"]), "region", &bucket.upstream.region);
        let mut section = root.within(&["buckets", name]);
        for region in &bucket.client_regions {
            check(&mut section, "client_regions", region);
        }
    }
}

fn check(section: &mut Section<'_>, key: &str, region: &str) {
    let lower = region.to_ascii_lowercase();
    if lower != region && has_form_of_aws(&lower) {
        let message = format!("\"{region}\" has upper-case letters, and the regions of AWS have none");
        section.warn(key, message, format!("write \"{lower}\""));
    }
}

/// Two letters, one or more words and a number.
fn has_form_of_aws(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    let [continent, words @ .., number] = &parts[..] else { return false };
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    continent.len() == 2 && is_word(continent) && !words.is_empty() && words.iter().all(is_word) && is_number
}
