//! The holder's locks, with what the standing ones come to: asked for by every payment, so it is kept and not counted again.
//!
//! Reading is a map's; whatever makes a lock stand or go passes through here.

use super::channel::{OwnLock, Removal};
use crate::message::LockId;
use crate::types::Version;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::Deref;

/// Locks by number, gone ones included until an echo covers their going.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "BTreeMap<LockId, OwnLock>")]
pub struct OwnLocks {
    locks: BTreeMap<LockId, OwnLock>,
    standing: usize,
    locked: u128,
}

impl From<BTreeMap<LockId, OwnLock>> for OwnLocks {
    fn from(locks: BTreeMap<LockId, OwnLock>) -> Self {
        let standing = locks.values().filter(|own| own.stands());
        Self {
            standing: standing.clone().count(),
            locked: standing.map(|own| own.lock.amount.get()).sum(),
            locks,
        }
    }
}

impl From<OwnLocks> for BTreeMap<LockId, OwnLock> {
    fn from(own: OwnLocks) -> Self {
        own.locks
    }
}

impl Serialize for OwnLocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.locks.serialize(serializer)
    }
}

impl Deref for OwnLocks {
    type Target = BTreeMap<LockId, OwnLock>;

    fn deref(&self) -> &Self::Target {
        &self.locks
    }
}

impl OwnLocks {
    /// How many stand, changes that are not signed yet included.
    pub fn standing(&self) -> usize {
        self.standing
    }

    /// What the standing ones hold together, units.
    pub fn locked(&self) -> u128 {
        self.locked
    }

    /// Adds one that stands.
    pub(super) fn add(&mut self, id: LockId, own: OwnLock) {
        self.standing += 1;
        self.locked += own.lock.amount.get();
        let before = self.locks.insert(id, own);
        debug_assert!(before.is_none(), "numbers of locks are used once");
    }

    /// Takes a standing one away from a version on. None if it does not stand.
    pub(super) fn take_away(
        &mut self,
        id: LockId,
        version: Version,
        how: Removal,
    ) -> Option<&OwnLock> {
        let own = self.locks.get_mut(&id).filter(|own| own.stands())?;
        own.removed = Some((version, how));
        self.standing -= 1;
        self.locked -= own.lock.amount.get();
        Some(own)
    }

    /// One to note something on that does not make it stand or go.
    pub(super) fn note(&mut self, id: LockId) -> Option<&mut OwnLock> {
        self.locks.get_mut(&id)
    }

    /// All of them, likewise.
    pub(super) fn note_all(&mut self) -> impl Iterator<Item = &mut OwnLock> {
        self.locks.values_mut()
    }

    /// Forgets one: of a channel that is closed it may stand.
    pub(super) fn forget(&mut self, id: LockId) {
        if let Some(own) = self.locks.remove(&id).filter(OwnLock::stands) {
            self.standing -= 1;
            self.locked -= own.lock.amount.get();
        }
    }

    /// Forgets gone ones of which the condition holds.
    pub(super) fn forget_gone(&mut self, over: impl Fn(&OwnLock) -> bool) {
        self.locks.retain(|_, own| own.stands() || !over(own));
    }
}
