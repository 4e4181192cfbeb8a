//! The real binary on a free port, raw HTTP to it, and signatures.

use alluvium_base::{Clock, Region, Secret, SystemClock};
use alluvium_wire::sigv4::sign::Signer;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub(crate) const KEY: &str = "AKIDDOORTEST";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A server process on a directory of its own.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) authority: String,
    pub(crate) dir: PathBuf,
    _root: tempfile::TempDir,
}

/// A command of the binary under test, in a clean environment.
pub(crate) fn alluvium() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    command.env_clear();
    for name in ["PATH", "HOME", "LLVM_PROFILE_FILE"] {
        if let Ok(value) = std::env::var(name) {
            command.env(name, value);
        }
    }
    command.env("ALLUVIUM_ROOT_ACCESS_KEY_ID", KEY);
    command.env("ALLUVIUM_ROOT_SECRET_ACCESS_KEY", SECRET);
    command
}

impl Server {
    /// Starts a server and waits until it says where it listens.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("data");
        let mut child = alluvium()
            .args(["serve", "--log-format", "json"])
            .env("ALLUVIUM_LISTEN", "127.0.0.1:0") // an argument wins over it
            .arg("--data-dir")
            .arg(&dir)
            .args(["--allow-unsafe-file-system"]) // a temporary directory may be in memory
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut seen = String::new();
        let authority = loop {
            let mut line = String::new();
            let size = log.read_line(&mut line).expect("the log is text");
            assert_ne!(size, 0, "the server ended before it listened:\n{seen}");
            seen.push_str(&line);
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "listening" {
                let endpoint = entry["endpoint"].as_str().expect("the endpoint is logged");
                break endpoint.trim_start_matches("http://").to_string();
            }
        };
        // Keep reading, or the server would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, authority, dir, _root: root }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.authority).expect("the server accepts");
        // A test that hangs is a failure; no answer depends on this.
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
        stream
    }

    /// Sends bytes and reads one answer.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).expect("the request is sent");
        Answer::read(&mut stream)
    }

    /// A signed request, as bytes.
    pub(crate) fn signed(&self, call: &SignedCall) -> Vec<u8> {
        let mut request = http::Request::builder().method("POST").uri("/");
        request = request.header("host", &self.authority);
        for (name, value) in &call.headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).expect("a request").into_parts();
        let region: Region = "us-east-1".parse().expect("a region");
        let signer = Signer::new(call.key.into(), Secret::new(call.secret.into()));
        let now_ms = SystemClock.now_ms() + call.off_ms;
        signer.sign(&mut head, &region, call.service, &call.body, now_ms).expect("it is signed");
        let mut bytes = b"POST / HTTP/1.1\r\n".to_vec();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        for (name, value) in &call.unsigned {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let length = format!("content-length: {}\r\n\r\n", call.body.len());
        bytes.extend_from_slice(length.as_bytes());
        bytes.extend_from_slice(&call.body);
        bytes
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("the server is our child")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What to sign, and how wrongly.
pub(crate) struct SignedCall {
    pub(crate) service: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// Added after signing.
    pub(crate) unsigned: Vec<(&'static str, &'static str)>,
    pub(crate) body: Vec<u8>,
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
    /// How far the signer's clock is off.
    pub(crate) off_ms: i64,
}

impl SignedCall {
    /// STS `GetCallerIdentity`.
    pub(crate) fn identity() -> Self {
        Self {
            service: "sts",
            headers: vec![("content-type", "application/x-www-form-urlencoded")],
            unsigned: Vec::new(),
            body: b"Action=GetCallerIdentity&Version=2011-06-15".to_vec(),
            key: KEY,
            secret: SECRET,
            off_ms: 0,
        }
    }

    /// Firehose `ListDeliveryStreams`.
    pub(crate) fn streams() -> Self {
        Self {
            service: "firehose",
            headers: vec![
                ("content-type", "application/x-amz-json-1.1"),
                ("x-amz-target", "Firehose_20150804.ListDeliveryStreams"),
            ],
            body: b"{}".to_vec(),
            ..Self::identity()
        }
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads one answer; the body by its content-length, or to the end.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut head = Vec::new();
        let mut byte = [0u8; 1];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Ok(_) => break,
                Err(error) => panic!("no answer: {error}"),
            }
        }
        let head = String::from_utf8(head).expect("a head is text").to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an answer: {head:?}"));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("the body is whole");
        Self { status, head, body: String::from_utf8(body).expect("a body is text") }
    }

    /// Asserts status and code, and that the request id is in the head.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let coded = self.body.contains(code) || self.head.contains(&code.to_lowercase());
        assert!(coded, "{code} is not in {self:?}");
        assert!(self.head.contains("x-amzn-requestid: "), "{self:?}");
    }
}
