//! Session announcements (`docs/format.md` section 12): the packs that a run has written so far, so that the next run
//! of the same key can adopt them. This only saves work. Nothing depends on them for safety.

use serde::{Deserialize, Serialize, Serializer};

use crate::base::frame::SessionWrap;
use crate::base::id::{Epoch, RepositoryId, SessionId, SourceId};
use crate::base::time::Moment;
use crate::format::dsse::{FORMAT, Payload, Predicate, StatementError, StatementSubject};
use crate::format::entry::ObjectRef;
use crate::format::name::Name;

/// The packs that a session has written since its previous announcement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    pub repository: RepositoryId,
    pub source: SourceId,
    pub session: SessionId,
    /// From 1.
    pub number: u64,
    pub epoch: Epoch,
    /// The signer's clock.
    pub written: Moment,
    /// The sealed data key of the session. Only in announcement 1.
    pub wrap: Option<SessionWrap>,
    /// At least one.
    pub packs: Vec<ObjectRef>,
}

impl Announcement {
    /// The name of the object in which it is stored.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::Session(self.source, self.session, self.number)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredAnnouncement {
    format: u32,
    repository: RepositoryId,
    source: SourceId,
    session: SessionId,
    number: u64,
    epoch: Epoch,
    written: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrap: Option<StoredWrap>,
    packs: Vec<ObjectRef>,
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct StoredWrap(#[serde(with = "super::base64")] [u8; SessionWrap::LEN]);

impl Serialize for Announcement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredAnnouncement {
            format: FORMAT,
            repository: self.repository,
            source: self.source,
            session: self.session,
            number: self.number,
            epoch: self.epoch,
            written: self.written,
            wrap: self.wrap.as_ref().map(|wrap| StoredWrap(*wrap.as_bytes())),
            packs: self.packs.clone(),
        }
        .serialize(serializer)
    }
}

impl Predicate for Announcement {
    const FAMILY: &'static str = "urn:sidekeep:session";
    const WHAT: &'static str = "session announcement";

    fn subjects(&self) -> Vec<StatementSubject> {
        let name = |pack: &ObjectRef| Name::Pack(self.source, pack.sha256).to_string();
        self.packs.iter().map(|pack| StatementSubject { name: name(pack), sha256: pack.sha256 }).collect()
    }

    fn decode(payload: &Payload) -> Result<Self, StatementError> {
        payload.check_format()?;
        Self::try_from(payload.predicate::<StoredAnnouncement>()?)
    }
}

impl StoredAnnouncement {
    /// Only the first announcement of a session has its wrap.
    fn may_have(&self, wrap: Option<&SessionWrap>) -> bool {
        match wrap {
            Some(wrap) => self.number == 1 && wrap.session() == self.session,
            None => self.number > 1,
        }
    }
}

impl TryFrom<StoredAnnouncement> for Announcement {
    type Error = StatementError;

    fn try_from(stored: StoredAnnouncement) -> Result<Self, StatementError> {
        let wrap = stored.wrap.as_ref().map(|wrap| SessionWrap::new(wrap.0));
        if !stored.may_have(wrap.as_ref()) {
            return Err(StatementError::Invalid { what: "wrap of a session announcement" });
        }
        Ok(Self {
            repository: stored.repository,
            source: stored.source,
            session: stored.session,
            number: stored.number,
            epoch: stored.epoch,
            written: stored.written,
            wrap,
            packs: stored.packs,
        })
    }
}
