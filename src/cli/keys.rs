//! Finds and opens the key for a command. The output of key commands and the content of key files are never shown, and
//! buffers with secrets are zeroized. Asks for a passphrase only if standard input is a terminal.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::keyfile::{KeyFile, KeyFileError, KeyFileHeader, KeyFileProtection};
use crate::crypto::role::Identity;

/// The environment variable with a passphrase.
pub(crate) const PASSPHRASE_VARIABLE: &str = "SIDEKEEP_PASSPHRASE";
/// Maximum size of a key file or passphrase.
const SECRET_BYTES_MAX: usize = 16 << 10;

/// Where to get a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeySource {
    File(PathBuf),
    /// A shell command that prints the text of a key file.
    Command(OsString),
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "the key file {}", path.display()),
            Self::Command(_) => f.write_str("the key that the key command printed"),
        }
    }
}

/// Where to get a passphrase, if one is needed.
pub(crate) enum PassphraseSource {
    /// A shell command that prints the passphrase. A line ending after it is ignored.
    Command(OsString),
    Given(Zeroizing<String>),
    /// Ask on the terminal, if there is one.
    Terminal,
}

/// What a secret command prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SecretKind {
    Key,
    Passphrase,
}

impl std::fmt::Display for SecretKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Passphrase => "passphrase",
        })
    }
}

/// There is no key, or it does not open.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error("no key is given")]
    Missing,
    #[error("cannot read the key file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{key} is not UTF-8 text of at most 16 KiB")]
    NoText { key: KeySource },
    #[error("cannot run the {kind} command")]
    Run {
        kind: SecretKind,
        #[source]
        source: std::io::Error,
    },
    #[error("the {kind} command failed: {status}")]
    CommandFailed { kind: SecretKind, status: ExitStatus },
    #[error("the {kind} command did not print UTF-8 text of at most 16 KiB")]
    CommandOutput { kind: SecretKind },
    #[error("cannot ask for a passphrase: standard input is not a terminal")]
    NoTerminal,
    #[error("the two passphrases differ")]
    Differ,
    #[error("cannot ask for the passphrase")]
    Prompt {
        #[source]
        source: std::io::Error,
    },
    #[error("{key} is protected by a passphrase, and standard input is not a terminal to ask for it")]
    NobodyToAsk { key: KeySource },
    #[error("{key} cannot be used")]
    Unusable {
        key: KeySource,
        #[source]
        source: KeyFileError,
    },
}

/// An opened key, and a warning about its file if there is one.
pub(crate) struct OpenedKey {
    pub(crate) identity: Identity,
    pub(crate) file: KeyFile,
    pub(crate) warning: Option<String>,
}

/// The header of the key file. It is not authenticated until the key is opened.
/// Fails if the file cannot be read, the key command fails, or the text is not a key file of at most 16 KiB.
pub(crate) fn header(key: &KeySource) -> Result<KeyFileHeader, KeyError> {
    Ok(key.read()?.file.header().clone())
}

/// Reads and opens the key.
/// Fails as [`header`] does, or if a passphrase is needed and is wrong or cannot be asked for.
pub(crate) fn open(key: &KeySource, passphrase: &PassphraseSource) -> Result<OpenedKey, KeyError> {
    let ReadKey { file, warning } = key.read()?;
    let passphrase = match file.protection() {
        KeyFileProtection::None => None,
        KeyFileProtection::Passphrase => Some(passphrase.get(key)?),
    };
    let passphrase = passphrase.as_ref().map(|text| text.as_bytes());
    let identity = file.open(passphrase).map_err(|source| key.unusable(source))?;
    Ok(OpenedKey { identity, file, warning })
}

/// A key that is not opened yet, and a warning about its file if there is one.
struct ReadKey {
    file: KeyFile,
    warning: Option<String>,
}

impl KeySource {
    fn read(&self) -> Result<ReadKey, KeyError> {
        match self {
            Self::File(path) => self.read_file(path),
            Self::Command(command) => {
                let text = output(command, SecretKind::Key)?;
                Ok(ReadKey { file: self.parse(&text)?, warning: None })
            }
        }
    }

    fn read_file(&self, path: &Path) -> Result<ReadKey, KeyError> {
        let failed = |source| KeyError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let warning = permissions_warning(path, &file.metadata().map_err(failed)?);
        let text = read_text(file).map_err(failed)?;
        Ok(ReadKey { file: self.parse_some(text)?, warning })
    }

    fn parse_some(&self, text: Option<Zeroizing<String>>) -> Result<KeyFile, KeyError> {
        match text {
            Some(text) => self.parse(&text),
            None => Err(KeyError::NoText { key: self.clone() }),
        }
    }

    fn parse(&self, text: &str) -> Result<KeyFile, KeyError> {
        KeyFile::parse(text).map_err(|source| self.unusable(source))
    }

    fn unusable(&self, source: KeyFileError) -> KeyError {
        KeyError::Unusable { key: self.clone(), source }
    }
}

/// A warning if other users can read the file.
fn permissions_warning(path: &Path, metadata: &Metadata) -> Option<String> {
    let mode = metadata.permissions().mode() & 0o777;
    // The permissions of a pipe such as /dev/fd/N have no meaning.
    if !metadata.is_file() || mode & 0o077 == 0 {
        return None;
    }
    Some(format!("the key file {} can be read by other users (mode {mode:03o}): run chmod 600 on it", path.display()))
}

/// Reads a text of bounded size. `None` if it is too long or not UTF-8.
fn read_text(from: impl Read) -> std::io::Result<Option<Zeroizing<String>>> {
    let bytes = read_bytes(from)?;
    if bytes.len() > SECRET_BYTES_MAX {
        return Ok(None);
    }
    let text = std::str::from_utf8(&bytes).ok();
    Ok(text.map(|text| Zeroizing::new(text.to_owned())))
}

/// Reads at most one byte more than a secret may have. The buffer never grows, because that would leave a copy behind.
fn read_bytes(from: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    // `read_to_end` grows a full buffer to look for the end of the input.
    let mut from = from.take(SECRET_BYTES_MAX as u64 + 1);
    let mut part = Zeroizing::new([0; 4096]);
    loop {
        let read = from.read(part.as_mut_slice())?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&part[..read]);
    }
}

/// Runs `command` in a shell and returns what it prints.
fn output(command: &OsString, kind: SecretKind) -> Result<Zeroizing<String>, KeyError> {
    let failed = |source| KeyError::Run { kind, source };
    let mut child = shell(command).spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("standard output is a pipe");
    let text = read_text(stdout).map_err(failed);
    let status = child.wait().map_err(failed)?;
    // A command that prints more than is read is ended by a signal.
    let text = text?.ok_or(KeyError::CommandOutput { kind })?;
    check_status(status, kind)?;
    Ok(text)
}

fn check_status(status: ExitStatus, kind: SecretKind) -> Result<(), KeyError> {
    if status.success() { Ok(()) } else { Err(KeyError::CommandFailed { kind, status }) }
}

fn shell(command: &OsString) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    shell.env_remove(PASSPHRASE_VARIABLE);
    shell.stdout(Stdio::piped());
    shell
}

impl PassphraseSource {
    /// Returns the passphrase of `key`, and asks for it if necessary.
    fn get(&self, key: &KeySource) -> Result<Zeroizing<String>, KeyError> {
        if let Some(text) = self.given()? {
            return Ok(text);
        }
        if !std::io::stdin().is_terminal() {
            return Err(KeyError::NobodyToAsk { key: key.clone() });
        }
        ask(&format!("Passphrase of {key}: "))
    }

    /// The passphrase, if the user gave one. Does not ask.
    /// Fails if the passphrase command cannot be run, fails, or does not print UTF-8 text of at most 16 KiB.
    pub(crate) fn given(&self) -> Result<Option<Zeroizing<String>>, KeyError> {
        match self {
            Self::Given(text) => Ok(Some(text.clone())),
            Self::Command(command) => passphrase_from(command).map(Some),
            Self::Terminal => Ok(None),
        }
    }
}

/// Asks twice for a passphrase for new keys, with `prompt` first.
/// Fails if standard input is not a terminal, the prompt fails, or the two passphrases differ.
pub(crate) fn ask_new_passphrase(prompt: &str) -> Result<Zeroizing<String>, KeyError> {
    if !std::io::stdin().is_terminal() {
        return Err(KeyError::NoTerminal);
    }
    let first = ask(prompt)?;
    let second = ask("Repeat the passphrase: ")?;
    if first == second { Ok(first) } else { Err(KeyError::Differ) }
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, KeyError> {
    let answer = rpassword::prompt_password(prompt).map_err(|source| KeyError::Prompt { source })?;
    Ok(Zeroizing::new(answer))
}

fn passphrase_from(command: &OsString) -> Result<Zeroizing<String>, KeyError> {
    let text = output(command, SecretKind::Passphrase)?;
    Ok(Zeroizing::new(without_line_end(&text).to_owned()))
}

/// `text` without the line ending after it, if there is one.
fn without_line_end(text: &str) -> &str {
    match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use zeroize::Zeroizing;

    use super::{KeyError, KeySource, PassphraseSource, SecretKind, open};
    use crate::base::env::Seeded;
    use crate::base::id::{Digest, RepositoryId};
    use crate::base::role::Role;
    use crate::crypto::keyfile::{KdfCost, KeyFile, Protection};
    use crate::crypto::role::Identity;

    fn text(protection: Protection<'_>) -> String {
        let identity = Identity::generate(&Seeded::new(1), Role::Operator, RepositoryId::new([1; 16]));
        KeyFile::write(&Seeded::new(2), &identity, "test", Digest::of(b""), protection).expect("writes").to_string()
    }

    fn sealed() -> String {
        text(Protection::Passphrase { passphrase: b"open sesame", cost: KdfCost::LEAST })
    }

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, KeySource) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("k");
        std::fs::write(&path, text).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("permissions");
        (dir, KeySource::File(path))
    }

    fn given(text: &str) -> PassphraseSource {
        PassphraseSource::Given(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_key_file_opens_and_wide_permissions_cause_a_warning() {
        let (_dir, key) = written(&text(Protection::None), 0o600);
        assert!(open(&key, &PassphraseSource::Terminal).is_ok_and(|opened| opened.warning.is_none()));
        let (_dir, key) = written(&text(Protection::None), 0o640);
        let opened = open(&key, &PassphraseSource::Terminal).unwrap_or_else(|error| panic!("{error}"));
        assert!(opened.warning.is_some_and(|warning| warning.contains("640")));
    }

    #[test]
    fn keys_and_passphrases_can_come_from_commands() {
        let (_dir, file) = written(&sealed(), 0o600);
        let KeySource::File(path) = &file else { unreachable!() };
        let key = KeySource::Command(format!("cat '{}'", path.display()).into());
        assert!(open(&key, &PassphraseSource::Command("echo 'open sesame'".into())).is_ok());
        assert!(open(&file, &given("open sesame")).is_ok());
        assert!(matches!(open(&file, &given("open")).err(), Some(KeyError::Unusable { .. })));
    }

    #[test]
    fn the_output_of_a_command_is_never_shown() {
        for (command, is_expected) in [
            (
                "echo hunter2; exit 3",
                (|e| matches!(e, KeyError::CommandFailed { kind: SecretKind::Key, .. })) as fn(&_) -> _,
            ),
            ("echo hunter2", |e| matches!(e, KeyError::Unusable { .. })),
            ("yes hunter2 | head -c 20000", |e| matches!(e, KeyError::CommandOutput { .. })),
            ("yes hunter2", |e| matches!(e, KeyError::CommandOutput { .. })),
            ("printf 'hunter2\\377'", |e| matches!(e, KeyError::CommandOutput { .. })),
        ] {
            let error = open(&KeySource::Command(command.into()), &PassphraseSource::Terminal).err().expect(command);
            assert!(is_expected(&error), "{command}: {error}");
            assert!(!format!("{error} {:?}", std::error::Error::source(&error)).contains("hunter2"));
        }
    }
}
