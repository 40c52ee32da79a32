//! Finding and opening the key that a command works with. Nothing that a command or a file said is ever printed, and
//! what holds a secret is zeroized. Asks a question only when standard input is a terminal.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::keyfile::{KeyFile, KeyFileError, KeyFileHeader, KeyFileProtection};
use crate::crypto::role::Identity;

/// Holds a passphrase.
pub(crate) const PASSPHRASE_VARIABLE: &str = "SIDEKEEP_PASSPHRASE";
/// Longest key file or passphrase that is read.
const SECRET_BYTES_MAX: usize = 16 << 10;

/// Where a key comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeySource {
    File(PathBuf),
    /// Run by the shell; prints the text of a key file.
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

/// Where a passphrase comes from, if one is needed.
pub(crate) enum PassphraseSource {
    /// Run by the shell; prints the passphrase, one line feed at its end aside.
    Command(OsString),
    Given(Zeroizing<String>),
    /// A person, if one is there.
    Terminal,
}

/// Which of the two commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Key,
    Passphrase,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Passphrase => "passphrase",
        })
    }
}

/// No key, or none that opens.
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
    #[error("{key} is no text of at most 16 KiB")]
    NoText { key: KeySource },
    #[error("cannot run the {asked} command")]
    Run {
        asked: Asked,
        #[source]
        source: std::io::Error,
    },
    #[error("the {asked} command failed: {status}")]
    CommandFailed { asked: Asked, status: ExitStatus },
    #[error("the {asked} command printed no text of at most 16 KiB")]
    CommandOutput { asked: Asked },
    #[error("there is no terminal to ask for a passphrase")]
    NoTerminal,
    #[error("the two passphrases differ")]
    Differ,
    #[error("cannot ask for the passphrase")]
    Prompt {
        #[source]
        source: std::io::Error,
    },
    /// Nobody can be asked.
    #[error("{key} is protected by a passphrase, and there is no terminal to ask for it")]
    NobodyToAsk { key: KeySource },
    #[error("{key} cannot be used")]
    Unusable {
        key: KeySource,
        #[source]
        source: KeyFileError,
    },
}

/// An opened key and what is worth a warning.
pub(crate) struct OpenedKey {
    pub(crate) identity: Identity,
    pub(crate) file: KeyFile,
    pub(crate) warning: Option<String>,
}

/// What the key says of itself; believed only once it is open.
pub(crate) fn header(key: &KeySource) -> Result<KeyFileHeader, KeyError> {
    let (file, _) = read(key)?;
    Ok(file.header().clone())
}

/// Reads and opens the key.
pub(crate) fn open(key: &KeySource, passphrase: &PassphraseSource) -> Result<OpenedKey, KeyError> {
    let (file, warning) = read(key)?;
    let unusable = |source| KeyError::Unusable { key: key.clone(), source };
    let given = match file.protection() {
        KeyFileProtection::None => None,
        KeyFileProtection::Passphrase => Some(passphrase.get(key)?),
    };
    let identity = file.open(given.as_ref().map(|text| text.as_bytes())).map_err(unusable)?;
    Ok(OpenedKey { identity, file, warning })
}

fn read(key: &KeySource) -> Result<(KeyFile, Option<String>), KeyError> {
    let (text, warning) = match key {
        KeySource::File(path) => read_file(path, key)?,
        KeySource::Command(command) => (output(command, Asked::Key)?, None),
    };
    let file = KeyFile::parse(&text).map_err(|source| KeyError::Unusable { key: key.clone(), source })?;
    Ok((file, warning))
}

fn read_file(path: &Path, key: &KeySource) -> Result<(Zeroizing<String>, Option<String>), KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    // A pipe handed over as /dev/fd/N has no permissions worth a word.
    let warning = (metadata.is_file() && mode & 0o077 != 0)
        .then(|| format!("the key file {} can be read by others (mode {mode:03o}): chmod 600 it", path.display()));
    let text = read_text(file).map_err(failed)?;
    Ok((text.ok_or_else(|| KeyError::NoText { key: key.clone() })?, warning))
}

/// A text of bounded size; `None` if it is none. The buffer never grows, so that no copy stays behind.
fn read_text(from: impl Read) -> std::io::Result<Option<Zeroizing<String>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 1));
    // `read_to_end` would grow the buffer to look for the end; a full one is too long anyway.
    let mut from = from.take(SECRET_BYTES_MAX as u64 + 1);
    let mut part = Zeroizing::new([0; 4096]);
    loop {
        let read = from.read(part.as_mut_slice())?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..read]);
    }
    if bytes.len() > SECRET_BYTES_MAX {
        return Ok(None);
    }
    Ok(std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned())))
}

/// What `command`, run by the shell, prints.
fn output(command: &OsString, asked: Asked) -> Result<Zeroizing<String>, KeyError> {
    let failed = |source| KeyError::Run { asked, source };
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env_remove(PASSPHRASE_VARIABLE);
    let mut child = shell.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let stdout = child.stdout.take().expect("standard output is a pipe");
    let text = read_text(stdout).map_err(failed);
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(KeyError::CommandFailed { asked, status });
    }
    text?.ok_or(KeyError::CommandOutput { asked })
}

impl PassphraseSource {
    /// The passphrase of `key`.
    fn get(&self, key: &KeySource) -> Result<Zeroizing<String>, KeyError> {
        match self {
            Self::Given(text) => Ok(text.clone()),
            Self::Command(command) => passphrase_from(command),
            Self::Terminal if std::io::stdin().is_terminal() => {
                let prompt = format!("Passphrase of {key}: ");
                let text = rpassword::prompt_password(prompt).map_err(|source| KeyError::Prompt { source })?;
                Ok(Zeroizing::new(text))
            }
            Self::Terminal => Err(KeyError::NobodyToAsk { key: key.clone() }),
        }
    }

    /// The passphrase for new key files, if one is given; nobody is asked.
    pub(crate) fn given(&self) -> Result<Option<Zeroizing<String>>, KeyError> {
        match self {
            Self::Given(text) => Ok(Some(text.clone())),
            Self::Command(command) => passphrase_from(command).map(Some),
            Self::Terminal => Ok(None),
        }
    }
}

/// Asks for a passphrase for new keys, twice.
pub(crate) fn ask_new_passphrase() -> Result<Zeroizing<String>, KeyError> {
    if !std::io::stdin().is_terminal() {
        return Err(KeyError::NoTerminal);
    }
    let ask = |prompt| rpassword::prompt_password(prompt).map(Zeroizing::new);
    let first = ask("Passphrase for admin.key and recovery.key: ").map_err(|source| KeyError::Prompt { source })?;
    let second = ask("The same again: ").map_err(|source| KeyError::Prompt { source })?;
    if first == second { Ok(first) } else { Err(KeyError::Differ) }
}

fn passphrase_from(command: &OsString) -> Result<Zeroizing<String>, KeyError> {
    let text = output(command, Asked::Passphrase)?;
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use zeroize::Zeroizing;

    use super::{Asked, KeyError, KeySource, PassphraseSource, open};
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
    fn files_open_and_wide_permissions_are_worth_a_warning() {
        let (_dir, key) = written(&text(Protection::None), 0o600);
        assert!(open(&key, &PassphraseSource::Terminal).is_ok_and(|opened| opened.warning.is_none()));
        let (_dir, key) = written(&text(Protection::None), 0o640);
        let opened = open(&key, &PassphraseSource::Terminal).unwrap_or_else(|error| panic!("{error}"));
        assert!(opened.warning.is_some_and(|warning| warning.contains("640")));
    }

    #[test]
    fn commands_print_keys_and_passphrases() {
        let (_dir, file) = written(&sealed(), 0o600);
        let KeySource::File(path) = &file else { unreachable!() };
        let key = KeySource::Command(format!("cat '{}'", path.display()).into());
        assert!(open(&key, &PassphraseSource::Command("echo 'open sesame'".into())).is_ok());
        assert!(open(&file, &given("open sesame")).is_ok());
        assert!(matches!(open(&file, &given("open")).err(), Some(KeyError::Unusable { .. })));
    }

    #[test]
    fn what_commands_print_is_never_repeated() {
        for (command, is_expected) in [
            (
                "echo hunter2; exit 3",
                (|e| matches!(e, KeyError::CommandFailed { asked: Asked::Key, .. })) as fn(&_) -> _,
            ),
            ("echo hunter2", |e| matches!(e, KeyError::Unusable { .. })),
            ("yes hunter2 | head -c 20000", |e| matches!(e, KeyError::CommandOutput { .. })),
            ("printf 'hunter2\\377'", |e| matches!(e, KeyError::CommandOutput { .. })),
        ] {
            let error = open(&KeySource::Command(command.into()), &PassphraseSource::Terminal).err().expect(command);
            assert!(is_expected(&error), "{command}: {error}");
            assert!(!format!("{error} {:?}", std::error::Error::source(&error)).contains("hunter2"));
        }
    }
}
