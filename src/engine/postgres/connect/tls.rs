//! TLS as libpq's `sslmode` asks for it, by rustls with a provider of its own: what others set for the process does
//! not reach here.
//!
//! A certificate must carry its name as a subject alternative name; a common name alone is not looked at.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engine::postgres::connect::host_environment::HostEnvironment;

/// What is asked of the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsOptions {
    pub(crate) mode: TlsMode,
    root: TlsRoot,
    /// Our certificate and its key, for servers that ask for one.
    own: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TlsMode {
    Disable,
    /// If the server offers it; whoever stands between can prevent that.
    Prefer,
    /// Always, with anybody.
    Require,
    /// With a server that a trusted authority signed for.
    VerifyCa,
    /// With the very server that was named.
    VerifyFull,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum TlsRoot {
    None,
    System,
    File(PathBuf),
}

/// Reads the parameters; `take` gives one and removes it.
pub(crate) fn tls_options(
    take: &mut dyn FnMut(&str) -> Option<String>,
    around: &HostEnvironment,
) -> Result<TlsOptions, String> {
    let usual = |name: &str| around.home().map(|home| home.join(".postgresql").join(name)).filter(|path| path.exists());
    let root = match take("sslrootcert") {
        Some(root) if root == "system" => TlsRoot::System,
        Some(root) => TlsRoot::File(PathBuf::from(root)),
        None => usual("root.crt").map_or(TlsRoot::None, TlsRoot::File),
    };
    let mode = match (take("sslmode").as_deref(), &root) {
        (Some("disable"), _) => TlsMode::Disable,
        (None, TlsRoot::System) | (Some("verify-full"), _) => TlsMode::VerifyFull,
        (Some(mode @ ("allow" | "prefer" | "require" | "verify-ca")), TlsRoot::System) => {
            return Err(format!("sslmode={mode} is too weak for sslrootcert=system; use verify-full"));
        }
        (Some("allow" | "prefer") | None, _) => TlsMode::Prefer,
        // As libpq: who has named an authority wants it to be asked.
        (Some("verify-ca"), _) | (Some("require"), TlsRoot::File(_)) => TlsMode::VerifyCa,
        (Some("require"), TlsRoot::None) => TlsMode::Require,
        (Some(mode), _) => {
            let known = "disable, allow, prefer, require, verify-ca or verify-full";
            return Err(format!("sslmode {mode:?} is none of {known}"));
        }
    };
    if root == TlsRoot::None && matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        return Err("to verify the server, name its authority with sslrootcert, a file or system".to_owned());
    }
    let certificate = take("sslcert").map(PathBuf::from).or_else(|| usual("postgresql.crt"));
    let key = take("sslkey").map(PathBuf::from).or_else(|| usual("postgresql.key"));
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => return Err("sslcert needs sslkey as well".to_owned()),
        (None, _) => None,
    };
    Ok(TlsOptions { mode, root, own })
}

impl TlsOptions {
    /// The same in libpq's words.
    pub(crate) fn keywords(&self) -> Vec<(&'static str, String)> {
        let mode = match self.mode {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        };
        let mut words = vec![("sslmode", mode.to_owned())];
        match &self.root {
            TlsRoot::None => {}
            TlsRoot::System => words.push(("sslrootcert", "system".to_owned())),
            TlsRoot::File(path) => words.push(("sslrootcert", path.display().to_string())),
        }
        if let Some((certificate, key)) = &self.own {
            words.push(("sslcert", certificate.display().to_string()));
            words.push(("sslkey", key.display().to_string()));
        }
        words
    }
}

/// Makes TLS sessions; `None` if there are to be none.
pub(crate) fn connector(options: &TlsOptions) -> Result<Option<MakeRustlsConnect>, String> {
    if options.mode == TlsMode::Disable {
        return Ok(None);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match options.mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
            Arc::new(Loose { roots: None, provider: provider.clone() })
        }
        TlsMode::VerifyCa => Arc::new(Loose { roots: Some(roots(&options.root)?), provider: provider.clone() }),
        TlsMode::VerifyFull => {
            let roots = Arc::new(roots(&options.root)?);
            let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            built.map_err(|error| format!("the certificates of {}: {error}", options.root.name()))?
        }
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS: {error}"))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match &options.own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (chain, key_bytes) = (certificates(certificate)?, private_key(key)?);
            let with_own = builder.with_client_auth_cert(chain, key_bytes);
            with_own.map_err(|error| format!("{} with {}: {error}", certificate.display(), key.display()))?
        }
    };
    // Servers from 17 on insist on it where TLS begins without being asked for.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Some(MakeRustlsConnect::new(config)))
}

impl TlsRoot {
    fn name(&self) -> String {
        match self {
            Self::None => "nobody".to_owned(),
            Self::System => "the system".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn roots(root: &TlsRoot) -> Result<RootCertStore, String> {
    let found = match root {
        TlsRoot::None => Vec::new(),
        TlsRoot::System => rustls_native_certs::load_native_certs().certs,
        TlsRoot::File(path) => certificates(path)?,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 { Err(format!("{} has no certificate of an authority", root.name())) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: rustls::pki_types::pem::Error| format!("the certificate {}: {error}", path.display());
    CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).map_err(|error| format!("the key {}: {error}", path.display()))?;
    // Root's may be read by a group, as libpq has it.
    let others = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    if metadata.mode() & others != 0 {
        return Err(format!("the key {}: others may read it; chmod 600", path.display()));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("the key {}: {error}", path.display()))
}

/// Asks less than rustls does: who signed, or nothing, but never for which name.
#[derive(Debug)]
struct Loose {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Loose {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
