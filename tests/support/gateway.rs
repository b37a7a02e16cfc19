//! The real binary as a child process, which is ended by its process ID when its value is dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tidy::documented_words;

use super::{Response, Scratch, Upstream, WAIT_MAX, get, request, wait_for};

/// A running gateway.
pub(crate) struct Gateway {
    pub(super) child: Child,
    pub(super) data: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) lines: Arc<Mutex<Vec<String>>>,
    pub(super) errors: Arc<Mutex<String>>,
    pub(super) directory: Scratch,
}

/// The start parameters of a gateway.
pub(crate) struct Builder {
    pub(super) environment: Vec<(String, String)>,
    arguments: Vec<String>,
    pub(super) file: Option<String>,
    /// The beginning of a shell command that ends with the program and its arguments.
    pub(super) launcher: Option<String>,
    pub(super) stdin: Option<OwnedFd>,
    program: PathBuf,
    pub(super) directory: Scratch,
}

/// The result of a process that ended by itself.
#[derive(Debug)]
pub(crate) struct ExitReport {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Builder {
    /// A bucket of kind `s3` with anonymous access.
    pub(crate) fn bucket(self, name: &str, upstream: &Upstream) -> Self {
        self.bucket_at(name, &[upstream.address()])
    }

    /// A bucket of kind `s3` on these endpoints, with anonymous access.
    pub(crate) fn bucket_at(self, name: &str, endpoints: &[SocketAddr]) -> Self {
        let urls: Vec<String> = endpoints.iter().map(|address| format!("http://{address}")).collect();
        self.set(&format!("buckets.{name}.auth"), "anonymous")
            .set(&format!("buckets.{name}.s3.endpoints"), &urls.join(","))
    }

    /// A bucket of kind `http` with anonymous access.
    pub(crate) fn http_bucket(self, name: &str, upstream: &Upstream) -> Self {
        self.set(&format!("buckets.{name}.kind"), "http")
            .set(&format!("buckets.{name}.auth"), "anonymous")
            .set(&format!("buckets.{name}.http.endpoints"), &format!("http://{}", upstream.address()))
    }

    /// Sets a config key by its variable.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        let name = format!("TIDEGATE_{}", key.to_ascii_uppercase().replace('.', "__"));
        self.env(&name, value)
    }

    /// Removes the variable of a config key.
    pub(crate) fn without(mut self, key: &str) -> Self {
        let name = format!("TIDEGATE_{}", key.to_ascii_uppercase().replace('.', "__"));
        self.environment.retain(|(set, _)| *set != name);
        self
    }

    /// Sets a variable; a later one wins.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a configuration file and names it on the command line.
    pub(crate) fn config(self, toml: &str) -> Self {
        Self { file: Some(toml.to_owned()), ..self }
    }

    /// Enables chaos, with a restart intensity for crash storms.
    pub(crate) fn chaos(self) -> Self {
        self.set("admin.chaos", "true").set("supervision.max_restarts", "100000")
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts this program file. By default it is the built binary at its own path.
    pub(crate) fn program(self, path: PathBuf) -> Self {
        Self { program: path, ..self }
    }

    /// The working directory of the process.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(super) fn command(&self) -> Command {
        let program = &self.program;
        let mut command = match &self.launcher {
            None => Command::new(program),
            Some(launcher) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(format!("{launcher} \"$0\" \"$@\"")).arg(program);
                shell
            }
        };
        command.env_clear().envs(self.environment.iter().cloned()).current_dir(self.directory.path());
        if let Some(file) = &self.file {
            let path = self.directory.path().join("tidegate.toml");
            std::fs::write(&path, file).unwrap();
            command.arg("--config").arg(path);
        }
        command.args(&self.arguments);
        let stdin = self.stdin.as_ref().map(|stdin| stdin.try_clone().unwrap());
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(self) -> Gateway {
        let mut gateway = self.without_process_shedding().spawn();
        let line = gateway.wait_for_log_line("listening", |_| true).await;
        let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
        (gateway.data, gateway.admin) = (address("address"), address("admin"));
        gateway
    }

    /// The same with the log in the terminal format, in the file `log` of its directory.
    pub(crate) async fn start_with_terminal_log(self) -> Gateway {
        let file = self.directory.path().join("log");
        self.set("log.format", "terminal")
            .set("log.output", file.to_str().unwrap())
            .start_with_log_file(&file)
            .await
    }

    /// Starts it without waiting.
    pub(crate) fn spawn(self) -> Gateway {
        let mut child = self.command().spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let errors = Arc::<Mutex<String>>::default();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let into = Arc::clone(&lines);
        thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .for_each(|line| into.lock().unwrap().push(line));
        });
        let into = Arc::clone(&errors);
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| {
                let mut text = into.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            });
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Gateway { child, data: nowhere, admin: nowhere, lines, errors, directory: self.directory }
    }

    /// Runs it until it ends by itself.
    pub(crate) fn run(self) -> ExitReport {
        let mut child = self.command().spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).map(|_| text)
        });
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > WAIT_MAX {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it is still running: {}", errors.join().unwrap().unwrap());
            }
            thread::sleep(Duration::from_millis(10));
        };
        let (stdout, stderr) = (reader.join().unwrap().unwrap(), errors.join().unwrap().unwrap());
        ExitReport { code: status.code(), stdout, stderr }
    }
}

impl Gateway {
    /// A gateway on free ports.
    pub(crate) fn builder() -> Builder {
        let builder = Builder {
            environment: Vec::new(),
            arguments: Vec::new(),
            file: None,
            launcher: None,
            stdin: None,
            program: env!("CARGO_BIN_EXE_tidegate").into(),
            directory: Scratch::new(),
        };
        builder
            .set("server.port", "0")
            .set("admin.port", "0")
            .set("server.workers", "2")
            .set("admin.hosts", "gateway.test")
    }

    /// A gateway with one bucket `b`.
    pub(crate) async fn in_front_of(upstream: &Upstream) -> Self {
        Self::builder().bucket("b", upstream).start().await
    }

    /// The address of the data listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.data
    }

    /// The address of the admin listener.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.data)
    }

    /// The working directory of the process.
    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        get(self.data, path).await
    }

    pub(crate) async fn admin(&self, path: &str) -> Response {
        get(self.admin, path).await
    }

    pub(crate) async fn status(&self) -> Value {
        let answer = self.admin("/status").await;
        assert_eq!(answer.complete_status(), 200);
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// One metric of the gateway's namespace or of `process_`, with its labels in the exposition format.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let namespace = if name.starts_with("process_") { "" } else { "tidegate_" };
        let name = &format!("{namespace}{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_else(|| panic!("no metric {name} in:\n{text}")).parse().unwrap()
    }

    /// The whole scrape.
    pub(crate) async fn metrics(&self) -> String {
        self.admin("/metrics").await.text()
    }

    /// The number of errors of a bucket, for all reasons.
    pub(crate) async fn errors(&self, bucket: &str) -> f64 {
        let text = self.metrics().await;
        let name = format!("tidegate_errors_total{{bucket=\"{bucket}\",");
        let counts = text.lines().filter_map(|line| line.strip_prefix(&name)?.rsplit_once(' '));
        counts.map(|(_, count)| count.parse::<f64>().unwrap()).sum()
    }

    /// Crashes an actor with a special message.
    pub(crate) async fn crash(&self, actor: &str, at: &str) {
        self.crash_query(actor, &format!("at={at}")).await;
    }

    /// Crashes an actor in its next ordinary message.
    pub(crate) async fn crash_next(&self, actor: &str, at: &str) {
        self.crash_query(actor, &format!("at={at}&victim=next")).await;
    }

    async fn crash_query(&self, actor: &str, query: &str) {
        let answer = self.post(&format!("/actors/{actor}/crash?{query}")).await;
        assert_eq!(answer.complete_status(), 202, "{}", answer.text());
    }

    /// A POST to the admin listener.
    pub(crate) async fn post(&self, path: &str) -> Response {
        request(self.admin, "POST", path, &[], Some(b"")).await
    }

    /// An actor's entry in `/status`.
    pub(crate) async fn actor(&self, name: &str) -> Value {
        let status = self.status().await;
        let actor = &status["actors"][name];
        assert!(actor.is_object(), "no actor {name}: {status}");
        actor.clone()
    }

    pub(crate) async fn generation(&self, actor: &str) -> u64 {
        self.actor(actor).await["generation"].as_u64().unwrap()
    }

    /// Waits until the actor has reached this generation.
    pub(crate) async fn wait_for_generation(&self, actor: &str, generation: u64) {
        let what = format!("{actor} reaches generation {generation}");
        wait_for(&what, || async move { (self.generation(actor).await >= generation).then_some(()) }).await;
    }

    /// Waits until nothing is in flight or queued anywhere.
    pub(crate) async fn wait_until_idle(&self) {
        wait_for("nothing is in flight", || async {
            let status = self.status().await;
            let buckets = status["buckets"].as_object().unwrap();
            let idle = buckets
                .values()
                .all(|bucket| bucket["pool"]["in_flight"] == 0 && bucket["pool"]["queued"] == 0);
            (idle && status["requests_in_flight"] == 0).then_some(())
        })
        .await;
    }

    /// All log bytes so far.
    pub(crate) fn raw_log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// All log lines so far.
    pub(crate) fn log_lines(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// Waits for a log line with this message.
    pub(crate) async fn wait_for_log_line(&self, message: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let find = || self.log_lines().into_iter().find(|line| line["msg"] == message && fits(line));
        let began = Instant::now();
        loop {
            if let Some(line) = find() {
                return line;
            }
            assert!(
                began.elapsed() < WAIT_MAX,
                "no log line `{message}`\nstderr: {}\nlog: {:#?}",
                self.errors.lock().unwrap(),
                self.lines.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The access line of the request with this ID.
    pub(crate) async fn wait_for_access_line(&self, id: &str) -> Value {
        self.wait_for_log_line("request", |line| line["id"] == id).await
    }

    /// Its stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.errors.lock().unwrap().clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            // The end may have truncated the last line.
            let lines = self.raw_log().into_iter().filter_map(|line| serde_json::from_str(&line).ok());
            lines.for_each(|line: Value| {
                documented_words::assert_documented(&line);
                let message = line["msg"].as_str().unwrap_or_default();
                assert!(!message.contains("report this defect"), "{line}");
            });
        }
    }
}
