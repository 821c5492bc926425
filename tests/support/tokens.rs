//! A token server as registries name it in their challenge: it gives who has a password the scope that is asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use super::registry::{PASSWORD, USER};

/// A server on a free port of the loopback; it ends when dropped.
pub(crate) struct TokenServer {
    address: SocketAddr,
    certificate: String,
    inner: Arc<Inner>,
}

struct Inner {
    pair: EcdsaKeyPair,
    /// DER in base64.
    certificate: String,
    scopes: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl TokenServer {
    pub(crate) fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["tokens.test".to_owned()]).expect("a certificate");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &made.signing_key.serialize_der());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let certificate = STANDARD.encode(made.cert.der());
        let pair = pair.expect("a key pair");
        let inner = Arc::new(Inner { pair, certificate, scopes: Mutex::default(), ended: false.into() });
        let serving = inner.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(SeqCst) {
                    return;
                }
                let _ = serving.answer(stream);
            }
        });
        Self { address, certificate: made.cert.pem(), inner }
    }

    /// The registry's section `auth`; what it believes is written into `folder`.
    pub(crate) fn auth(&self, folder: &Path) -> String {
        let bundle = folder.join("tokens.pem");
        std::fs::write(&bundle, &self.certificate).expect("the certificate");
        format!(
            "auth:\n  token:\n    realm: http://{}/token\n    service: registry\n    issuer: tokens.test\n    \
             rootcertbundle: {}\n",
            self.address,
            bundle.display()
        )
    }

    /// The scopes that were asked for since the last call.
    pub(crate) fn scopes(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.scopes.lock().expect("the scopes"))
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.inner.ended.store(true, SeqCst);
        // Wakes the thread that accepts, which then closes the socket.
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    /// One request; the connection ends after it.
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut target, mut is_known) = (String::new(), false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            let basic = format!("authorization: basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
            is_known |= line.trim().eq_ignore_ascii_case(&basic);
            if target.is_empty() {
                target = line
                    .split(' ')
                    .nth(1)
                    .unwrap_or_default()
                    .replace("%3A", ":")
                    .replace("%2C", ",")
                    .replace("%2F", "/");
            }
        }
        let scope = target.split(['?', '&']).find_map(|pair| pair.strip_prefix("scope=")).unwrap_or_default();
        let (status, body) =
            if is_known { ("200 OK", self.token(scope)) } else { ("401 Unauthorized", "{}".to_owned()) };
        if is_known {
            self.scopes.lock().expect("the scopes").push(scope.to_owned());
        }
        write!(
            reader.get_mut(),
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    /// For `repository:NAME:ACTION,ACTION`.
    fn token(&self, scope: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
        let parts: Vec<_> = scope.splitn(3, ':').collect();
        let access = match parts[..] {
            [kind, name, actions] => {
                json!([{"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}])
            }
            _ => json!([]),
        };
        let head = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({"iss": "tokens.test", "sub": USER, "aud": "registry", "exp": now + 300, "nbf": now - 10,
            "iat": now, "jti": format!("{now}"), "access": access});
        let signed = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        json!({"token": format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))}).to_string()
    }
}
