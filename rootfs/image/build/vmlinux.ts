import { KilnError } from '../../../domain/failures.ts';

/** How a bzImage's payload is packed, by its first bytes. */
const PACKINGS = [
  { name: 'lz4', magic: [0x02, 0x21, 0x4c, 0x18], unpack: ['lz4', '-dc'] },
  { name: 'zstd', magic: [0x28, 0xb5, 0x2f, 0xfd], unpack: ['zstd', '-dc'] },
  { name: 'xz', magic: [0xfd, 0x37, 0x7a, 0x58], unpack: ['xz', '-dc'] },
  { name: 'gzip', magic: [0x1f, 0x8b], unpack: ['gzip', '-dc'] },
] as const;

export interface KernelPayload {
  /** Byte range of the packed kernel within the bzImage. */
  readonly offset: number;
  readonly length: number;
  /** Program that unpacks it from stdin to stdout. */
  readonly unpack: readonly string[];
}

const HEADER_BYTES = 0x250;

/**
 * Finds the packed ELF kernel within a bzImage, by the Linux boot protocol's setup header (version ≥ 2.08).
 * @throws CONFIG_INVALID where the file is no bzImage, its payload lies outside of it or has an unknown packing
 */
export function findKernelPayload(bzImage: Buffer): KernelPayload {
  if (bzImage.length < HEADER_BYTES || bzImage.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw new KilnError('CONFIG_INVALID', 'the kernel is no bzImage');
  }
  if (bzImage.readUInt16LE(0x206) < 0x208)
    throw new KilnError('CONFIG_INVALID', 'the bzImage is too old to name its payload');
  // Zero means four sectors, for kernels older than this field.
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const offset = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  const length = bzImage.readUInt32LE(0x24c);
  if (length < 16 || offset + length > bzImage.length) {
    throw new KilnError('CONFIG_INVALID', 'the bzImage is cut short: its payload ends behind its end', {
      offset,
      length,
    });
  }
  const packing = PACKINGS.find(({ magic }) => magic.every((byte, i) => bzImage[offset + i] === byte));
  if (packing === undefined) {
    const magic = bzImage.toString('hex', offset, offset + 4);
    throw new KilnError('CONFIG_INVALID', `the kernel is packed in an unknown way (starts with ${magic})`, { magic });
  }
  return { offset, length, unpack: packing.unpack };
}
