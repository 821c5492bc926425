//! [`Certificates`]: PEM of clusters, read once for each building of a snapshot.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_model::Pem;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Most bytes of a file: bundles of authorities have some hundred kilobytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What was read of files so far, and the system's authorities when somebody needs them.
#[derive(Default)]
pub(crate) struct Certificates {
    files: HashMap<PathBuf, Result<Arc<[u8]>, String>>,
    system: Option<Arc<RootCertStore>>,
}

/// Why certificates or a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}", path = .path.display())]
    Read {
        /// As the rule names it.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// A Secret or its entry is not there.
    #[error("{0}")]
    Missing(String),
    /// Nothing of that kind in it, or nothing that can be decoded.
    #[error("{0} holds no {1} in PEM")]
    Nothing(String, &'static str),
    /// TLS cannot be set up with them.
    #[error("{0}")]
    Unusable(String),
}

impl Certificates {
    /// The bytes at a place.
    pub(crate) fn bytes(&mut self, pem: &Pem) -> Result<Arc<[u8]>, CertificateError> {
        match pem {
            Pem::Secret { bytes, .. } => Ok(bytes.0.as_slice().into()),
            Pem::Missing { what } => Err(CertificateError::Missing(what.clone())),
            Pem::File { path } => {
                let known = self.files.entry(path.clone()).or_insert_with(|| read(path));
                known.clone().map_err(|error| CertificateError::Read { path: path.clone(), error })
            }
        }
    }

    pub(super) fn chain(&mut self, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let bytes = self.bytes(pem)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let nothing = || CertificateError::Nothing(place(pem), "certificate");
        found.ok().filter(|chain| !chain.is_empty()).ok_or_else(nothing)
    }

    pub(super) fn key(&mut self, pem: &Pem) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let bytes = self.bytes(pem)?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| CertificateError::Nothing(place(pem), "private key"))
    }

    pub(super) fn revocations(
        &mut self,
        pem: &Pem,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, CertificateError> {
        let bytes = self.bytes(pem)?;
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let nothing = || CertificateError::Nothing(place(pem), "list of revoked certificates");
        found.ok().filter(|lists| !lists.is_empty()).ok_or_else(nothing)
    }

    /// The system's authorities. Without any no certificate is good.
    pub(super) fn system(&mut self) -> Arc<RootCertStore> {
        let load = || {
            let mut roots = RootCertStore::empty();
            // What cannot be decoded is left out, as OpenSSL does.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(roots)
        };
        self.system.get_or_insert_with(load).clone()
    }

    /// Files are read anew for the next snapshot.
    pub(crate) fn forget_files(&mut self) {
        self.files.clear();
    }
}

fn read(path: &PathBuf) -> Result<Arc<[u8]>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE {
        return Err(format!("it has more than {MAX_FILE} bytes"));
    }
    std::fs::read(path).map(Arc::from).map_err(|error| error.to_string())
}

fn place(pem: &Pem) -> String {
    match pem {
        Pem::File { path } => path.display().to_string(),
        Pem::Secret { name, entry, .. } => format!("entry `{entry}` of Secret `{name}`"),
        Pem::Missing { what } => what.clone(),
    }
}
