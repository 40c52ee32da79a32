//! TLS as libpq's `sslmode` asks for it, by rustls with a provider of its own: what others set for the process does
//! not reach here.
//!
//! A certificate must carry its name as a subject alternative name; a common name alone is not looked at.

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

/// What is asked of the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsOptions {
    pub(crate) mode: TlsMode,
    root: TlsRoot,
    /// For servers that ask for one.
    own: Option<ClientCertificate>,
}

/// The files of our certificate and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ClientCertificate {
    certificate: PathBuf,
    key: PathBuf,
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

/// Reads the parameters of TLS.
pub(crate) fn tls_options(
    parameters: &mut ConnectionParameters,
    environment: &HostEnvironment,
) -> Result<TlsOptions, String> {
    let root = tls_root(parameters, environment);
    let mode = tls_mode(parameters.take_text("sslmode").as_deref(), &root)?;
    if root == TlsRoot::None && matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        return Err("to verify the server, name its authority with sslrootcert, a file or system".to_owned());
    }
    let own = ClientCertificate::read(parameters, environment)?;
    Ok(TlsOptions { mode, root, own })
}

/// A file in the directory where libpq looks for it, if it is there.
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
        // As libpq: who has named an authority wants it to be asked.
        "require" if matches!(root, TlsRoot::File(_)) => Ok(TlsMode::VerifyCa),
        "require" => Ok(TlsMode::Require),
        "verify-ca" => Ok(TlsMode::VerifyCa),
        "verify-full" => Ok(TlsMode::VerifyFull),
        _ => {
            let known = "disable, allow, prefer, require, verify-ca or verify-full";
            Err(format!("sslmode {name:?} is none of {known}"))
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
            (Some(_), None) => Err("sslcert needs sslkey as well".to_owned()),
            (None, _) => Ok(None),
        }
    }
}

impl TlsMode {
    /// The same in libpq's words.
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
    /// The same as keywords of libpq and their values.
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

/// Makes TLS sessions; `None` if there are to be none.
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
    // Servers from 17 on insist on it where TLS begins without being asked for.
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
    /// The same in libpq's words.
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
        return Err(format!("{} has no certificate of an authority", root.name()));
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

/// Root's may be read by a group, as libpq has it.
fn others_may_read(metadata: &Metadata) -> bool {
    let others = if metadata.uid() == 0 { 0o027 } else { 0o077 };
    metadata.mode() & others != 0
}

/// Asks less than rustls does: who signed, or nothing, but never for which name.
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
