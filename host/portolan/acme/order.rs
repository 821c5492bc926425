//! [`Ordering`]: one certificate by ACME, from the account to the signed chain.

use std::io;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use portolan_proxy::{ChallengeError, Challenges};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::store::Store;
use super::web::{ANSWER_TIME, Web};
use super::{AcmeOptions, Wanted};
use crate::modules::{FetchError, web_client};

/// For the authority to look at a host, and to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum AcmeError {
    #[error(transparent)]
    Protocol(#[from] instant_acme::Error),
    #[error(transparent)]
    Client(#[from] FetchError),
    #[error(transparent)]
    State(#[from] io::Error),
    #[error("cannot make a key or a request: {0}")]
    Key(#[from] rcgen::Error),
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    #[error("the authority knows no challenge {0:?} for `{1}`")]
    NoChallenge(ChallengeType, String),
    #[error("the authority refuses `{name}`: {reason}")]
    Refused { name: String, reason: String },
    #[error("the authority has not signed in time")]
    Timeout,
}

/// Whom to ask, and where its challenges are answered.
pub(super) struct Ordering<'a> {
    pub(super) options: &'a AcmeOptions,
    pub(super) store: &'a Store,
    pub(super) challenges: &'a Challenges,
}

/// What is answered until it is dropped.
struct Answered<'a> {
    challenges: &'a Challenges,
    /// Tokens and names.
    known: Vec<(String, String)>,
}

impl Ordering<'_> {
    /// The key with the chain, as PEM.
    pub(super) async fn certificate(&self, wanted: &Wanted) -> Result<String, AcmeError> {
        let account = self.account(wanted).await?;
        let names: Vec<_> = wanted.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut answered = Answered { challenges: self.challenges, known: Vec::new() };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            answered.prove(authorization?, wanted.http).await?;
        }
        if order.poll_ready(&PATIENCE).await? != OrderStatus::Ready {
            return Err(refusal(&mut order).await);
        }
        drop(answered);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(wanted.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        order.finalize_csr(params.serialize_request(&key)?.der()).await?;
        Ok(key.serialize_pem() + &order.poll_certificate(&PATIENCE).await?)
    }

    /// The account of this directory, made when there is none.
    async fn account(&self, wanted: &Wanted) -> Result<Account, AcmeError> {
        let builder = Account::builder_with_http(Box::new(Web(web_client(&self.options.ca, ANSWER_TIME)?)));
        if let Some(credentials) = self.store.account()? {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact: Vec<_> = wanted.contact.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&new, self.options.directory.clone(), None).await?;
        self.store.keep_account(&credentials)?;
        Ok(account)
    }
}

impl Answered<'_> {
    /// Answers the challenge of one host, and says so. A host that was proved lately needs none.
    async fn prove(&mut self, mut authorization: AuthorizationHandle<'_>, http: bool) -> Result<(), AcmeError> {
        let name = authorization.identifier().to_string();
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => return Ok(()),
            status => return Err(AcmeError::Refused { name, reason: format!("its authorization is {status:?}") }),
        }
        let kind = if http { ChallengeType::Http01 } else { ChallengeType::TlsAlpn01 };
        let challenge = authorization.challenge(kind.clone());
        let mut challenge = challenge.ok_or_else(|| AcmeError::NoChallenge(kind, name.clone()))?;
        self.known.push((challenge.token.clone(), name.clone()));
        if http {
            self.challenges.answer_with_text(&challenge.token, challenge.key_authorization().as_str());
        } else {
            let (certificate, key) = proof(&name, &challenge)?;
            self.challenges.answer_with_certificate(&name, &certificate, &key)?;
        }
        Ok(challenge.set_ready().await?)
    }
}

impl Drop for Answered<'_> {
    fn drop(&mut self) {
        self.known.iter().for_each(|(token, name)| self.challenges.withdraw(token, name));
    }
}

/// The certificate of TLS-ALPN-01 with its key: it has signed itself, and holds the digest that is asked for.
fn proof(name: &str, challenge: &ChallengeHandle<'_>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    let digest = challenge.key_authorization().digest();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// What the authority says of the first host that it does not sign for.
async fn refusal(order: &mut Order) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return AcmeError::Refused { name, reason: problem.to_string() };
        }
    }
    AcmeError::Refused { name: "the order".to_owned(), reason: "it is invalid".to_owned() }
}
