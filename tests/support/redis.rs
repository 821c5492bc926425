//! A real `redis-server` as a child process (Debian package `redis-server`).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::await_some;
use super::ports::Port;

/// A server without a disk; killed when dropped.
pub(crate) struct Redis {
    child: Child,
    port: Port,
    password: Option<&'static str>,
}

impl Redis {
    /// Starts one. None where the program is not installed, which CI takes for a failure.
    pub(crate) fn start(password: Option<&'static str>) -> Option<Self> {
        let port = Port::free();
        let child = match spawn(&port, password) {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "redis-server does not start: {error}");
                println!("skipped: redis-server is not installed");
                return None;
            }
        };
        let redis = Self { child, port, password };
        redis.await_ready();
        Some(redis)
    }

    /// Ends it; [`Redis::restart`] brings it back.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.port, self.password).expect("it was there before");
        self.await_ready();
    }

    fn await_ready(&self) {
        await_some("redis-server to answer", || self.ask(&["PING"]).filter(|reply| reply == "+PONG\r\n"));
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// Stops and continues its process by signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// One command on a connection of its own; the reply as it comes.
    pub(crate) fn ask(&self, words: &[&str]) -> Option<String> {
        self.ask_in(0, words)
    }

    /// The same in another data base.
    pub(crate) fn ask_in(&self, database: u32, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        if let Some(password) = self.password {
            say(&mut stream, &["AUTH", password])?;
        }
        say(&mut stream, &["SELECT", &database.to_string()])?;
        say(&mut stream, words)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: &Port, password: Option<&str>) -> std::io::Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.number().to_string(), "--save", "", "--appendonly", "no"]);
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

fn say(stream: &mut TcpStream, words: &[&str]) -> Option<String> {
    let mut query = format!("*{}\r\n", words.len());
    for word in words {
        query.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(query.as_bytes()).ok()?;
    let mut reply = [0; 4096];
    let length = stream.read(&mut reply).ok()?;
    Some(String::from_utf8_lossy(&reply[..length]).into_owned())
}
