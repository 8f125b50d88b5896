//! Bytes that cannot go on yet. A buffer holds memory only while it holds bytes, so an idle tunnel holds none.

use std::cell::RefCell;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// How many empty buffers a thread keeps for the next who needs one, and how large one may be.
const MAX_SPARE: usize = 16;
const SPARE_BYTES: usize = 128 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
    static SPARE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Lends the thread's reading space: all of its tunnels read into the same. Not to be nested.
pub(super) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| read(scratch))
}

/// A queue of bytes. As small as can be where it is empty, since every tunnel has eight.
#[derive(Debug, Default)]
pub(super) struct Buffer(Option<Box<Filled>>);

#[derive(Debug, Default)]
struct Filled {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.0.as_ref().and_then(|filled| filled.bytes.get(filled.start..)).unwrap_or_default()
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.grow().extend_from_slice(bytes);
        }
    }

    /// The bytes, to be appended to.
    pub(super) fn grow(&mut self) -> &mut Vec<u8> {
        if self.0.is_none() {
            *self = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        &mut self.0.get_or_insert_default().bytes
    }

    /// Drops the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        if count >= self.len() {
            return self.clear();
        }
        if let Some(filled) = &mut self.0 {
            filled.start += count;
        }
    }

    /// Drops all bytes but the last `count`.
    pub(super) fn keep_last(&mut self, count: usize) {
        self.consume(self.len().saturating_sub(count));
        if let Some(filled) = &mut self.0 {
            filled.bytes.drain(..filled.start);
            filled.start = 0;
        }
    }

    /// Drops all bytes, and gives the memory back.
    pub(super) fn clear(&mut self) {
        let Some(mut filled) = self.0.take().filter(|filled| filled.bytes.capacity() <= SPARE_BYTES) else { return };
        filled.bytes.clear();
        filled.start = 0;
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MAX_SPARE {
                spare.push(Self(Some(filled)));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = Buffer::default();
        buffer.extend(b"abc");
        buffer.consume(2);
        assert_eq!(buffer.as_slice(), b"c");
        buffer.extend(b"def");
        buffer.consume(4);
        assert!(buffer.is_empty());
        assert!(buffer.0.is_none());
    }

    #[test]
    fn the_last_bytes_can_be_kept() {
        let mut buffer = Buffer::default();
        buffer.extend(b"abcdef");
        buffer.keep_last(2);
        assert_eq!(buffer.as_slice(), b"ef");
        buffer.keep_last(5);
        assert_eq!(buffer.as_slice(), b"ef");
        buffer.keep_last(0);
        assert!(buffer.0.is_none());
    }
}
