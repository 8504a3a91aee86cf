import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isKilnError } from '../../../domain/failures.ts';
import { type CpioEntry, packCpio } from '../../../rootfs/image/build/cpio.ts';
import { dependenciesOf } from '../../../rootfs/image/build/kernel-modules.ts';
import { findKernelPayload } from '../../../rootfs/image/build/vmlinux.ts';

/** A bzImage as the boot protocol describes it, with this payload. */
function bzImage(payload: Buffer, setupSectors = 4, gap = 16): Buffer {
  const setup = Buffer.alloc((setupSectors + 1) * 512);
  setup.writeUInt8(setupSectors, 0x1f1);
  setup.write('HdrS', 0x202, 'latin1');
  setup.writeUInt16LE(0x20f, 0x206);
  setup.writeUInt32LE(gap, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(gap), payload, Buffer.from('tail')]);
}

const LZ4 = Buffer.from([0x02, 0x21, 0x4c, 0x18]);

describe('the packed kernel in a bzImage', () => {
  it.each([
    ['lz4', [0x02, 0x21, 0x4c, 0x18]],
    ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
    ['xz', [0xfd, 0x37, 0x7a, 0x58]],
    ['gzip', [0x1f, 0x8b, 0x08, 0x00]],
  ])('is found and its packing known: %s', (program, magic) => {
    const payload = Buffer.concat([Buffer.from(magic), Buffer.alloc(100, 9)]);
    const image = bzImage(payload);
    const found = findKernelPayload(image);
    expect(found.unpack[0]).toBe(program);
    expect(image.subarray(found.offset, found.offset + found.length)).toEqual(payload);
  });

  it('is found behind any number of setup sectors, zero meaning four', () => {
    const payload = Buffer.concat([LZ4, Buffer.alloc(64, 1)]);
    expect(findKernelPayload(bzImage(payload, 30)).offset).toBe(31 * 512 + 16);
    const old = bzImage(payload, 4);
    old.writeUInt8(0, 0x1f1);
    expect(findKernelPayload(old).offset).toBe(5 * 512 + 16);
  });

  it('is refused where the file is cut, foreign, too old or packed in an unknown way', () => {
    const whole = bzImage(Buffer.concat([LZ4, Buffer.alloc(1000)]));
    const tooOld = Buffer.from(whole);
    tooOld.writeUInt16LE(0x207, 0x206);
    const unknown = bzImage(Buffer.from('?'.repeat(100)));
    for (const broken of [whole.subarray(0, whole.length - 50), Buffer.alloc(4096), Buffer.alloc(0), tooOld, unknown]) {
      expect(() => findKernelPayload(broken)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    }
  });

  it('never lies outside of the file, whatever the header says', () => {
    fc.assert(
      fc.property(fc.nat(255), fc.nat(0xffffffff), fc.nat(0xffffffff), (sectors, offset, length) => {
        const image = bzImage(Buffer.concat([LZ4, Buffer.alloc(500)]));
        image.writeUInt8(sectors, 0x1f1);
        image.writeUInt32LE(offset, 0x248);
        image.writeUInt32LE(length, 0x24c);
        try {
          const found = findKernelPayload(image);
          expect(found.offset + found.length).toBeLessThanOrEqual(image.length);
        } catch (error) {
          expect(isKilnError(error, 'CONFIG_INVALID')).toBe(true);
        }
      }),
    );
  });
});

describe('what a kernel module depends on', () => {
  it('stands in its information section', () => {
    const module = (text: string): Buffer =>
      Buffer.from(`\x7fELF\0license=GPL\0depends=${text}\0retpoline=Y\0`, 'latin1');
    expect(dependenciesOf(module(''))).toEqual([]);
    expect(dependenciesOf(module('virtio'))).toEqual(['virtio']);
    expect(dependenciesOf(module('virtio,virtio_ring'))).toEqual(['virtio', 'virtio_ring']);
  });

  it('is read from any bytes without failing', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 50 }), (before, after) => {
        const bytes = Buffer.concat([before, Buffer.from('\0depends='), after]);
        for (const name of dependenciesOf(bytes)) expect(name).not.toMatch(/[,\0]/);
      }),
    );
  });
});

/** Reads a `newc` archive by its specification, independently of the code that writes it. */
function unpack(archive: Buffer): { name: string; mode: number; data: Buffer; device: [number, number] }[] {
  const found = [];
  let at = 0;
  for (;;) {
    const field = (index: number): number =>
      Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16);
    expect(archive.toString('latin1', at, at + 6)).toBe('070701');
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const device: [number, number] = [field(9), field(10)];
    const name = archive.toString('utf8', at + 110, at + 110 + nameSize - 1);
    const dataAt = (at + 110 + nameSize + 3) & ~3;
    if (name === 'TRAILER!!!') return found;
    found.push({ name, mode, data: archive.subarray(dataAt, dataAt + size), device });
    at = (dataAt + size + 3) & ~3;
  }
}

describe('an initramfs', () => {
  it('holds what was put in, whatever the lengths', () => {
    const files = fc.array(
      fc.record({
        name: fc.stringMatching(/^[a-z]{1,12}$/),
        mode: fc.nat(0o777),
        data: fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
      }),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(files, (entries) => {
        const archive = packCpio(entries.map((entry): CpioEntry => ({ kind: 'file', ...entry })));
        expect(unpack(archive)).toEqual(
          entries.map(({ name, mode, data }) => ({ name, mode: 0o100000 | mode, data, device: [0, 0] })),
        );
      }),
    );
  });

  it('holds folders and devices', () => {
    const archive = packCpio([
      { kind: 'directory', name: 'dev', mode: 0o755 },
      { kind: 'character-device', name: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    ]);
    expect(unpack(archive)).toMatchObject([
      { name: 'dev', mode: 0o040755 },
      { name: 'dev/console', mode: 0o020600, device: [5, 1] },
    ]);
  });

  it.each(['', '/etc', 'a\0b'])('refuses the name %j', (name) => {
    expect(() => packCpio([{ kind: 'directory', name, mode: 0o755 }])).toThrow(
      expect.objectContaining({ code: 'INTERNAL' }),
    );
  });
});
