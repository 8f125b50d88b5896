//! Masking (RFC 6455 §5.3): XOR with a repeated key of four bytes.

/// Appends the unmasked `payload` to `into`. `offset` is its position in the payload of the frame (RFC 6455 §5.3).
/// Masking is the same operation.
pub fn unmask(mask: [u8; 4], offset: u64, payload: &[u8], into: &mut Vec<u8>) {
    let mut key = mask;
    // The remainder is less than 4.
    #[allow(clippy::cast_possible_truncation)]
    key.rotate_left((offset % 4) as usize);

    let start = into.len();
    into.extend_from_slice(payload);
    // The compiler vectorises blocks of a fixed size.
    let (blocks, rest) = into.split_at_mut(start).1.as_chunks_mut::<16>();
    let [a, b, c, d] = key;
    let wide = [a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d];
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(wide) {
            *byte ^= key;
        }
    }
    for (byte, key) in rest.iter_mut().zip(wide) {
        *byte ^= key;
    }
}
