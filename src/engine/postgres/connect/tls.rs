//! TLS according to libpq's `sslmode`, with rustls and a crypto provider of our own, so that the process-wide default
//! has no effect here.
//!
//! A certificate must contain its name as a subject alternative name. The common name is ignored.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engine::postgres::connect::host_environment::HostEnvironment;
use crate::engine::postgres::connect::parameters::ConnectionParameters;

/// What the connection requires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsOptions {
    pub(crate) mode: TlsMode,
    root: TlsRoot,
    /// Sent to servers that ask for a client certificate.
    own: Option<ClientCertificate>,
}

/// The files of our certificate and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ClientCertificate {
    certificate: PathBuf,
    key: PathBuf,
}

/// How much of the server's identity is verified, from libpq's `sslmode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TlsMode {
    Disable,
    /// If the server offers it. An attacker on the network path can prevent that.
    Prefer,
    /// Always, with any server.
    Require,
    /// With a server whose certificate is signed by a trusted authority.
    VerifyCa,
    /// Also requires that the certificate matches the host name.
    VerifyFull,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum TlsRoot {
    None,
    System,
    File(PathBuf),
}

/// Reads the TLS parameters.
/// Follows "SSL Support" in PostgreSQL's libpq documentation.
/// Fails if `sslmode` is unknown or too weak for `sslrootcert=system`, if it verifies the server and there is no root
/// certificate, or if there is a client certificate but no key for it.
pub(crate) fn tls_options(
    parameters: &mut ConnectionParameters,
    environment: &HostEnvironment,
) -> Result<TlsOptions, String> {
    let root = tls_root(parameters, environment);
    let mode = tls_mode(parameters.take_text("sslmode").as_deref(), &root)?;
    if root == TlsRoot::None && matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        return Err("to verify the server, set sslrootcert to a file with its authority or to system".to_owned());
    }
    let own = ClientCertificate::read(parameters, environment)?;
    Ok(TlsOptions { mode, root, own })
}

/// The file at libpq's default location, if it exists.
fn default_file(environment: &HostEnvironment, name: &str) -> Option<PathBuf> {
    let path = environment.home()?.join(".postgresql").join(name);
    path.exists().then_some(path)
}

fn tls_root(parameters: &mut ConnectionParameters, environment: &HostEnvironment) -> TlsRoot {
    match parameters.take_text("sslrootcert") {
        Some(root) if root == "system" => TlsRoot::System,
        Some(root) => TlsRoot::File(PathBuf::from(root)),
        None => default_file(environment, "root.crt").map_or(TlsRoot::None, TlsRoot::File),
    }
}

fn tls_mode(name: Option<&str>, root: &TlsRoot) -> Result<TlsMode, String> {
    let Some(name) = name else {
        return Ok(if *root == TlsRoot::System { TlsMode::VerifyFull } else { TlsMode::Prefer });
    };
    let mode = mode_named(name, root)?;
    if *root == TlsRoot::System && !matches!(mode, TlsMode::Disable | TlsMode::VerifyFull) {
        return Err(format!("sslmode={name} is too weak for sslrootcert=system; use verify-full"));
    }
    Ok(mode)
}

fn mode_named(name: &str, root: &TlsRoot) -> Result<TlsMode, String> {
    match name {
        "disable" => Ok(TlsMode::Disable),
        "allow" | "prefer" => Ok(TlsMode::Prefer),
        // As in libpq: if a root certificate is given, it is checked.
        "require" if matches!(root, TlsRoot::File(_)) => Ok(TlsMode::VerifyCa),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        _ => {
            let known = "disable, allow, prefer, require, verify-ca or verify-full";
            Err(format!("sslmode {name:?} is unknown; use {known}"))
        }
    }
}

impl ClientCertificate {
    fn read(parameters: &mut ConnectionParameters, environment: &HostEnvironment) -> Result<Option<Self>, String> {
        let mut file = |key: &str, default: &str| match parameters.take_text(key) {
            Some(path) => Some(PathBuf::from(path)),
            None => default_file(environment, default),
        };
        let certificate = file("sslcert", "postgresql.crt");
        let key = file("sslkey", "postgresql.key");
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (Some(_), None) => Err("sslcert also needs sslkey".to_owned()),
            (None, _) => Ok(None),
        }
    }
}

impl TlsMode {
    /// libpq's keyword for the mode.
    fn keyword(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl TlsOptions {
    /// libpq's keywords and their values.
    pub(crate) fn keywords(&self) -> Vec<(&'static str, String)> {
        let mut keywords = vec![("sslmode", self.mode.keyword().to_owned())];
        if let Some(root) = self.root.keyword() {
            keywords.push(("sslrootcert", root));
        }
        if let Some(own) = &self.own {
            keywords.push(("sslcert", own.certificate.display().to_string()));
            keywords.push(("sslkey", own.key.display().to_string()));
        }
        keywords
    }
}

/// A TLS connector. `None` if TLS is disabled.
/// Fails if a certificate or key cannot be read or used, the key is accessible to others, or the root certificates
/// contain no usable authority.
pub(crate) fn connector(options: &TlsOptions) -> Result<Option<MakeRustlsConnect>, String> {
    if options.mode == TlsMode::Disable {
        return Ok(None);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(options, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("TLS: {error}"))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match &options.own {
        None => builder.with_no_client_auth(),
        Some(own) => own.add_to(builder)?,
    };
    // Servers from version 17 on require ALPN for direct TLS connections.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn verifier(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let provider = provider.clone();
    match options.mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Ok(Arc::new(LooseVerifier { roots: None, provider })),
        TlsMode::VerifyCa => Ok(Arc::new(LooseVerifier { roots: Some(roots(&options.root)?), provider })),
        TlsMode::VerifyFull => full_verifier(&options.root, provider),
    }
}

fn full_verifier(root: &TlsRoot, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let roots = Arc::new(roots(root)?);
    let built = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
    Ok(built.map_err(|error| format!("the certificates of {}: {error}", root.name()))?)
}

impl ClientCertificate {
    fn add_to(&self, builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> Result<ClientConfig, String> {
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map_err(|error| format!("{} with {}: {error}", self.certificate.display(), self.key.display()))
    }
}

impl TlsRoot {
    /// libpq's value of sslrootcert.
    fn keyword(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::System => Some("system".to_owned()),
            Self::File(path) => Some(path.display().to_string()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::None => "nobody".to_owned(),
            Self::System => "the system".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn roots(root: &TlsRoot) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(authorities(root)?);
    if added == 0 {
        return Err(format!("{} contains no usable certificate of an authority", root.name()));
    }
    Ok(roots)
}

fn authorities(root: &TlsRoot) -> Result<Vec<CertificateDer<'static>>, String> {
    match root {
        TlsRoot::None => Ok(Vec::new()),
        TlsRoot::System => Ok(rustls_native_certs::load_native_certs().certs),
        TlsRoot::File(path) => certificates(path),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: rustls::pki_types::pem::Error| format!("the certificate {}: {error}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    certificates.collect::<Result<_, _>>().map_err(unreadable)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let unreadable = |error: String| format!("the key {}: {error}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if others_may_read(&metadata) {
        return Err(unreadable("others may read it; chmod 600".to_owned()));
    }
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(error.to_string()))
}

/// Files owned by root may be readable by a group, as in libpq.
fn others_may_read(metadata: &Metadata) -> bool {
    let others = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    metadata.mode() & others != 0
}

/// Verifies less than rustls does by default: only the authority, or nothing, but never the host name.
#[derive(Debug)]
struct LooseVerifier {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for LooseVerifier {
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
