//! The top. Whose outcome is the end of which fetch.

use crate::reactor::FetchId;

/// Fetches and their places in an order, found by the fetch's slot.
#[derive(Default)]
pub(super) struct Roster {
    slots: Vec<Option<(FetchId, usize)>>,
    len: usize,
}

impl Roster {
    pub(super) fn insert(&mut self, id: FetchId, index: usize) {
        let slot = id.slot();
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        self.len += usize::from(self.slots[slot].replace((id, index)).is_none());
    }

    pub(super) fn remove(&mut self, id: FetchId) -> Option<usize> {
        let entry = self.slots.get_mut(id.slot())?;
        let (_, index) = entry.take_if(|(listed, _)| *listed == id)?;
        self.len -= 1;
        Some(index)
    }

    /// All of them, by slot.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (FetchId, usize)> + use<> {
        self.len = 0;
        std::mem::take(&mut self.slots).into_iter().flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}
