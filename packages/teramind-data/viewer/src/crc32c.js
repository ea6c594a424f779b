// CRC32C at the end of each chunk. zarrita drops it unread; here a damaged chunk is an error and not a picture.

const TABLE = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** CRC32C (Castagnoli) of bytes, as an unsigned number. */
export function crc32c(bytes) {
  let value = 0xffffffff;
  for (let i = 0; i < bytes.length; i += 1) value = TABLE[(value ^ bytes[i]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** The codec of zarrita's registry. */
export class CheckedCrc32c {
  kind = "bytes_to_bytes";

  static fromConfig() {
    return new CheckedCrc32c();
  }

  encode() {
    throw new Error("this page only reads");
  }

  decode(bytes) {
    const body = bytes.subarray(0, bytes.length - 4);
    const stored = new DataView(bytes.buffer, bytes.byteOffset + body.length, 4).getUint32(0, true);
    if (crc32c(body) !== stored) throw new Error("checksum does not match: the stored chunk is damaged");
    return body;
  }

  computeEncodedSize(size) {
    return size + 4;
  }
}
