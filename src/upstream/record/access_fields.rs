//! The fields of an access line (O2). Values of parameters that may be secrets are redacted (`telemetry/redact.rs`).

use std::time::Instant;

use tidegate_actors::{Action, ClientIdentity, OperationClass};
use tidegate_config::Priority;

use crate::telemetry::fields::{FieldFormat, Fields, LineFields};
use crate::telemetry::metrics::timings::RequestDurations;
use crate::upstream::bucket::Bucket;
use crate::upstream::record::ip_field::ip_text;
use crate::upstream::record::{HedgeOutcome, Record, micros, start_time};

/// A record that has ended, and its times.
pub(super) struct AccessFields<'a> {
    pub(super) record: &'a Record,
    pub(super) durations: &'a RequestDurations,
    pub(super) now: Instant,
}

impl LineFields for AccessFields<'_> {
    fn write<F: FieldFormat>(&self, fields: &mut Fields<'_, F>) {
        let record = self.record;
        let bucket = record.bucket.map(|id| record.host.bucket(id));
        self.write_request(bucket, fields);
        fields.number("status", record.status);
        fields.optional_word("reason", record.reason);
        fields.optional_text("detail", record.detail.as_deref());
        self.write_client(fields);
        fields.number("received_bytes", record.upload_progress.bytes());
        fields.number("sent_bytes", record.sent_bytes);
        fields.optional_word("class", record.class.map(OperationClass::as_str));
        let costs = bucket.map_or(record.host.config().rate_limit.cost, |bucket| bucket.config.costs);
        fields.optional_number("cost", record.class.map(|class| class.cost(&costs)));
        fields.optional_word("priority", record.priority.map(Priority::as_str));
        self.write_attempts(bucket, fields);
        self.write_times(fields);
    }
}

impl AccessFields<'_> {
    fn write_request<F: FieldFormat>(&self, bucket: Option<&Bucket>, fields: &mut Fields<'_, F>) {
        let record = self.record;
        let (uri, redaction) = (&record.request.uri, record.host.redaction());
        fields.text("id", record.id.to_str().unwrap_or_default());
        fields.text("method", record.request.method.as_str());
        fields.text("path", &redaction.redact_path(uri.path()));
        if let Some(query) = uri.query()
            && !record.host.monitor().actions().applies(Action::AccessLogDetail)
        {
            fields.text("query", &redaction.redact_query(query));
        }
        fields.optional_text("bucket", bucket.map(|bucket| bucket.name.as_str()));
        fields.optional_text("bucket_name", record.bucket_name.as_deref());
    }

    fn write_client<F: FieldFormat>(&self, fields: &mut Fields<'_, F>) {
        let record = self.record;
        if let Some(client) = record.request.client {
            fields.word("client", &ip_text(client.address));
            fields.word("client_source", client.source.as_str());
        }
        match &record.caller {
            Some(ClientIdentity::Key(id)) => fields.text("key", record.host.keyring().name(*id)),
            Some(ClientIdentity::Token(bearer)) => fields.optional_text("subject", bearer.subject.as_deref()),
            Some(ClientIdentity::Anonymous) | None => {}
        }
    }

    fn write_attempts<F: FieldFormat>(&self, bucket: Option<&Bucket>, fields: &mut Fields<'_, F>) {
        let record = self.record;
        fields.number("attempts", record.attempts);
        if record.attempt_notes.is_logged() {
            fields.display("attempts_detail", &record.attempt_notes);
        }
        fields.optional_word("hedge", record.hedged.map(HedgeOutcome::as_str));
        fields.optional_number("endpoint", record.endpoint);
        let credential = bucket.zip(record.credential).and_then(|(bucket, id)| bucket.credential(id));
        fields.optional_text("credential", credential);
    }

    fn write_times<F: FieldFormat>(&self, fields: &mut Fields<'_, F>) {
        let durations = self.durations;
        fields.optional_number("admission_us", durations.admission.map(micros));
        fields.optional_number("queue_us", durations.queue.map(micros));
        fields.optional_number("first_byte_us", durations.first_byte.map(micros));
        fields.number("start_us", start_time::start_us(durations.total, self.now));
        fields.number("total_us", micros(durations.total));
    }
}
