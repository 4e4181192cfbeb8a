//! Start, stop and the other commands, on the real binary.

use crate::support::{Answer, Server, SignedCall, alluvium};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::Write;

#[test]
fn sigterm_ends_the_call_in_flight_and_exits_0() {
    let mut server = Server::start(&[]);
    let expect =
        SignedCall { unsigned: vec![("expect", "100-continue")], ..SignedCall::identity() };
    let request = server.signed(&expect);
    let head = request.len() - expect.body.len();
    let mut stream = server.connect();
    stream.write_all(&request[..head]).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 100);
    server.terminate();
    stream.write_all(&request[head..]).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.dir.join("endpoint").exists());
    assert!(std::net::TcpStream::connect(&server.authority).is_err());
}

#[test]
fn a_second_server_is_refused_with_the_holders_process_id() {
    let server = Server::start(&[]);
    let second = alluvium()
        .args(["serve", "--listen", "127.0.0.1:0", "--allow-unsafe-file-system", "--data-dir"])
        .arg(&server.dir)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&server.child.id().to_string()), "{said}");
    assert_eq!(server.send(&server.signed(&SignedCall::identity())).status, 200);
}

#[test]
fn wrong_usage_exits_2_and_names_the_thing() {
    for (arguments, word) in [
        (&["serve", "--records", "postgres://db"][..], "postgres"),
        (&["serve", "--objects", "s3://bucket"], "s3"),
        (&["serve", "--log", "kafka://broker"], "kafka"),
        (&["serve", "--regions", "nowhere"], "nowhere"),
        (&["serve", "--no-such-flag"], "--no-such-flag"),
        (&["log", "repair", "--accept-gap", "x"], "LANE:SEQUENCE"),
        (&["nothing"], "nothing"),
    ] {
        let done = alluvium().args(arguments).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn the_account_is_fixed_by_the_first_start() {
    let mut server = Server::start(&["--account-id", "123456789012"]);
    let answer = server.send(&server.signed(&SignedCall::identity()));
    assert!(answer.body.contains("arn:aws:iam::123456789012:root"), "{answer:?}");
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
    let other = alluvium()
        .args(["serve", "--listen", "127.0.0.1:0", "--allow-unsafe-file-system"])
        .args(["--account-id", "210987654321", "--data-dir"])
        .arg(&server.dir)
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8(other.stderr).unwrap().contains("123456789012"));
}

#[test]
fn env_prints_what_points_the_sdks_at_the_server() {
    let server = Server::start(&[]);
    let env = |region: &[&str]| {
        let done = alluvium().args(["env", "--data-dir"]).arg(&server.dir).args(region).output();
        let done = done.unwrap();
        assert_eq!(done.status.code(), Some(0));
        String::from_utf8(done.stdout).unwrap()
    };
    let text = env(&[]);
    assert!(text.contains(&format!("export AWS_ENDPOINT_URL=http://{}\n", server.authority)));
    assert!(text.contains("export AWS_REGION=us-east-1\n"), "{text}");
    assert!(env(&["--region", "eu-west-1"]).contains("export AWS_REGION=eu-west-1\n"));
    let nowhere = alluvium().args(["env", "--data-dir", "/nonexistent"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1));
}

#[test]
fn generated_credentials_are_private_and_work() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let mut first = alluvium();
    first.env_remove("ALLUVIUM_ROOT_ACCESS_KEY_ID").env_remove("ALLUVIUM_ROOT_SECRET_ACCESS_KEY");
    let mut child = first
        .args(["serve", "--listen", "127.0.0.1:0", "--allow-unsafe-file-system", "--data-dir"])
        .arg(&dir)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = std::io::BufReader::new(child.stderr.take().unwrap());
    let listening = std::io::BufRead::lines(log).any(|line| line.unwrap().contains("listening"));
    assert!(listening);
    let text = std::fs::read_to_string(dir.join("credentials")).unwrap();
    assert!(text.starts_with("[default]\naws_access_key_id = AKIA"), "not the expected form");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.join("credentials")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_log_of_a_stopped_server_is_checked_and_that_of_a_running_one_is_not() {
    let mut server = Server::start(&[]);
    let check = || {
        let mut command = alluvium();
        command.args(["log", "check", "--data-dir"]).arg(&server.dir).output().unwrap()
    };
    let running = check();
    assert_eq!(running.status.code(), Some(1));
    assert!(String::from_utf8(running.stderr).unwrap().contains(&server.child.id().to_string()));
    server.terminate();
    let ended = server.child.wait().unwrap();
    assert_eq!(ended.code(), Some(0));
    let mut command = alluvium();
    let stopped = command.args(["log", "check", "--data-dir"]).arg(&server.dir).output().unwrap();
    let said = String::from_utf8(stopped.stdout).unwrap();
    assert_eq!(stopped.status.code(), Some(0), "{said}");
    assert!(said.ends_with("sound\n"), "{said}");
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served_and_signed_by_its_authority() {
    let server = Server::start(&[]);
    let stream = tokio::net::TcpStream::connect(&server.authority).await.unwrap();
    let connected =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    let text = String::from_utf8(server.signed(&SignedCall::identity())).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut request =
        http::Request::builder().method("POST").uri(format!("http://{}/", server.authority));
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").unwrap();
        if name != "host" && name != "content-length" {
            request = request.header(name, value);
        }
    }
    let request = request.body(Full::new(bytes::Bytes::from(body.to_string()))).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(std::str::from_utf8(&body).unwrap().contains("GetCallerIdentityResult"));
}
