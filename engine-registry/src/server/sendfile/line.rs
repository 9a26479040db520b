//! What a connection's body and its socket know of each other: the [`Line`], and the [`Hole`] that stands for a file's bytes.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use bytes::Buf;

use super::FilePart;

/// Bytes that are sent at once: enough that the way to a thread and back does not count, and little enough that others get
/// the thread soon.
const AT_ONCE: usize = 1 << 20;

/// The memory of every hole: its address is what counts. Nobody touches it, so it costs address space only.
static MEMORY: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; AT_ONCE].into());

fn is_hole(slice: &[u8]) -> bool {
    !slice.is_empty() && MEMORY.as_ptr_range().contains(&slice.as_ptr())
}

/// The answer of a file that is under way on a connection: one at most, as HTTP/1.1 has it.
#[derive(Debug, Default)]
pub(in crate::server) struct Line(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    under_way: Option<UnderWay>,
    is_broken: bool,
}

#[derive(Debug)]
struct UnderWay {
    part: FilePart,
    /// Whether the answer's head is out, and bytes of the file may be.
    is_begun: bool,
}

/// What is to be written next.
#[derive(Debug)]
pub(super) enum Next {
    /// So many of the slices, as they are.
    Memory(usize),
    /// Bytes of a file.
    File(Arc<File>, Range<u64>),
}

impl Line {
    /// Makes a body's hole. `answer` is dropped when the last byte has gone, or none goes any more.
    pub(super) fn begin(self: &Arc<Self>, part: FilePart, size: usize, answer: Body) -> Hole {
        let mut state = self.state();
        if state.under_way.is_some() || part.size() != size as u64 {
            state.is_broken = true;
        }
        state.under_way = Some(UnderWay { part, is_begun: false });
        drop(state);
        Hole { line: Arc::clone(self), left: size, _answer: answer }
    }

    /// Decides what is written of the slices that hyper has.
    pub(super) fn next(&self, slices: &[IoSlice<'_>]) -> io::Result<Next> {
        let mut state = self.state();
        let hole = slices.iter().position(|slice| is_hole(slice));
        let before = slices[..hole.unwrap_or(slices.len())].iter().any(|slice| !slice.is_empty());
        let next = match (&mut state.under_way, hole) {
            (None, None) => Some(Next::Memory(slices.len())),
            (Some(UnderWay { is_begun: false, .. }), Some(hole)) if before => Some(Next::Memory(hole)),
            (Some(under_way), Some(hole)) if !before && under_way.part.size() > 0 => {
                under_way.is_begun = true;
                let Range { start, end } = under_way.part.range;
                let end = end.min(start.saturating_add(slices[hole].len() as u64));
                Some(Next::File(Arc::clone(&under_way.part.file), start..end))
            }
            _ => None,
        };
        match next {
            Some(next) if !state.is_broken => Ok(next),
            _ => {
                state.is_broken = true;
                Err(io::Error::other("a file's bytes are not where they belong"))
            }
        }
    }

    /// Notes that bytes of the file were sent.
    pub(super) fn sent(&self, count: usize) {
        if let Some(under_way) = &mut self.state().under_way {
            let part = &mut under_way.part;
            part.range.start = part.range.start.saturating_add(count as u64);
            part.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Whether nothing is written any more.
    #[cfg(test)]
    pub(super) fn is_broken(&self) -> bool {
        self.state().is_broken
    }

    fn break_off(&self) {
        self.state().is_broken = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body's bytes, for hyper.
#[derive(Debug)]
pub(in crate::server) struct Hole {
    line: Arc<Line>,
    left: usize,
    /// Has the record of the request, which ends with it.
    _answer: Body,
}

impl Hole {
    fn memory(&self) -> &[u8] {
        &MEMORY[..self.left.min(AT_ONCE)]
    }
}

impl Buf for Hole {
    fn remaining(&self) -> usize {
        self.left
    }

    /// Is asked by whoever copies.
    fn chunk(&self) -> &[u8] {
        self.line.break_off();
        self.memory()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(first) = slices.first_mut() else { return 0 };
        *first = IoSlice::new(self.memory());
        usize::from(self.left > 0)
    }

    /// Follows what the socket has sent, and nothing else.
    fn advance(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
        let mut state = self.line.state();
        let left = state.under_way.as_ref().map(|under_way| under_way.part.size());
        if left != Some(self.left as u64) {
            state.is_broken = true;
        }
        if self.left == 0 {
            state.under_way = None;
        }
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        if self.left > 0 {
            self.line.break_off();
        }
    }
}
