//! Floor 1. br (RFC 7932). The only file that names brotli_decompressor.
//!
//! In go encoded bytes; out come decoded ones. The window is at most 16 MiB, as the format has it;
//! the streams of larger windows that some encoders can make are not of this coding. Memory is
//! counted where it is allocated.

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, SliceWrapper, SliceWrapperMut,
};

use super::{Fault, Progress, Stage};
use crate::coding::Coding;

pub(super) struct Brotli {
    state: Box<BrotliState<Counting, Counting, Counting>>,
    has_ended: bool,
}

/// Gives memory, and knows how much of it is away.
#[derive(Default)]
pub(super) struct Counting {
    held_bytes: usize,
}

pub(super) struct Cells<T>(Vec<T>);

impl Brotli {
    pub(super) fn new() -> Self {
        let counting = Counting::default;
        let state = BrotliState::new_strict(counting(), counting(), counting());
        Self { state: Box::new(state), has_ended: false }
    }
}

impl Stage for Brotli {
    fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Fault> {
        if self.has_ended {
            let is_over = input.is_empty();
            return is_over.then(Progress::default).ok_or(Fault::Trailing(Coding::Brotli));
        }
        let (mut left, mut used) = (input.len(), 0);
        let (mut room, mut made) = (output.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut used,
            input,
            &mut room,
            &mut made,
            output,
            &mut 0,
            &mut self.state,
        );
        let has_more = matches!(result, BrotliResult::NeedsMoreOutput);
        match result {
            BrotliResult::ResultFailure => {
                let code = format!("{:?}", self.state.error_code).to_ascii_lowercase();
                let why = code.trim_start_matches("brotli_decoder_error_").replace('_', " ");
                return Err(Fault::Corrupt(Coding::Brotli, why.into()));
            }
            BrotliResult::ResultSuccess => self.has_ended = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Progress { used, made, has_more })
    }

    fn is_complete(&self) -> bool {
        self.has_ended
    }

    fn held_bytes(&self) -> usize {
        let state = &*self.state;
        let allocated = [&state.alloc_u8, &state.alloc_u32, &state.alloc_hc];
        size_of_val(state) + allocated.iter().map(|from| from.held_bytes).sum::<usize>()
    }

    fn growth_bytes(&self) -> usize {
        let bits = match self.state.window_bits {
            0 => WINDOW_BITS_MAX,
            bits => bits.min(WINDOW_BITS_MAX),
        };
        ((1 << bits) + TABLES_BYTES).saturating_sub(self.held_bytes())
    }

    fn coding(&self) -> Coding {
        Coding::Brotli
    }
}

impl<T: Clone + Default> Allocator<T> for Counting {
    type AllocatedMemory = Cells<T>;

    fn alloc_cell(&mut self, count: usize) -> Cells<T> {
        self.held_bytes += count * size_of::<T>();
        Cells(vec![T::default(); count])
    }

    fn free_cell(&mut self, cells: Cells<T>) {
        self.held_bytes -= cells.0.len() * size_of::<T>();
    }
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> SliceWrapper<T> for Cells<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Cells<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// RFC 7932 §9.1.
const WINDOW_BITS_MAX: u32 = 24;
/// The prefix codes and context maps of a meta-block at their largest, and the state itself.
const TABLES_BYTES: usize = 4 << 20;
