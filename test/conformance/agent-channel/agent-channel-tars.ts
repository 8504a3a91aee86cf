import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { extract, pack } from 'tar-stream';
import { describe, expect, it } from 'vitest';
import type { AgentChannel } from '../../../ports/guest-agent.ts';
import { type Bench, freshId, runIn } from '../../support/guest/guest-under-test.ts';

interface Entry {
  readonly name: string;
  readonly type?: 'file' | 'directory' | 'symlink' | 'link' | 'character-device';
  readonly linkname?: string;
  readonly mode?: number;
  readonly data?: Buffer;
}

async function tarOf(entries: readonly Entry[]): Promise<Buffer> {
  const tar = pack();
  for (const { data, ...header } of entries)
    tar.entry({ mtime: new Date(86_400_000), ...header }, data ?? Buffer.alloc(0));
  tar.finalize();
  return buffer(tar);
}

async function entriesOf(
  tar: Buffer,
): Promise<Map<string, { type: string; mode: number; digest: string; uid: number }>> {
  const found = new Map();
  const reader = extract();
  reader.end(tar);
  for await (const entry of reader) {
    const { name, type, mode, uid } = entry.header;
    const hash = createHash('sha256');
    for await (const chunk of entry) {
      if (!Buffer.isBuffer(chunk)) throw new Error('a tar entry gave no bytes');
      hash.update(chunk);
    }
    found.set(name, { type, mode, uid, digest: hash.digest('hex') });
  }
  return found;
}

const put = (agent: AgentChannel, path: string, tar: Buffer) => agent.putTar(path, Readable.from([tar]));
const get = (agent: AgentChannel, ...where: Parameters<AgentChannel['getTar']>) => buffer(agent.getTar(...where));

export function describeTars(bench: Bench): void {
  describe('tar', () => {
    it('10 MB in and out are identical', async () => {
      const files = Array.from({ length: 40 }, (_, n) => ({
        name: `d${n % 5}/file-${n}`,
        mode: n % 2 === 0 ? 0o644 : 0o755,
        data: randomBytes(262_144 + n),
      }));
      const sent = await tarOf([...files, { name: 'empty', type: 'directory', mode: 0o700 }]);
      const path = `/workspace/${freshId()}`;
      expect(await put(bench.agent(), path, sent)).toEqual({ bytes: sent.length });
      const got = await entriesOf(await get(bench.agent(), path, []));
      for (const [name, entry] of await entriesOf(sent)) {
        expect(got.get(name) ?? got.get(`${name}/`)).toEqual({ ...entry, uid: 0 });
      }
    });

    it('equal content is equal bytes, whenever it was written', async () => {
      const [one, two] = [`/workspace/${freshId()}`, `/workspace/${freshId()}`];
      const entries: Entry[] = [
        { name: 'b/c', data: Buffer.from('c') },
        { name: 'a', data: Buffer.from('a') },
        { name: 'l', type: 'symlink', linkname: 'a' },
      ];
      await put(bench.agent(), one, await tarOf(entries));
      await put(bench.agent(), two, await tarOf([...entries].reverse()));
      await runIn(bench.agent(), ['touch', '-d', '@1700000000', `${two}/a`]);
      const [first, second] = [await get(bench.agent(), one, []), await get(bench.agent(), two, [])];
      expect(first.equals(second)).toBe(true);
    });

    it('packs the wanted paths and leaves out the excluded', async () => {
      const path = `/workspace/${freshId()}`;
      const files = ['src/a.ts', 'src/node_modules/x', 'dist/b.js', 'dist/b.map', 'other'];
      await put(bench.agent(), path, await tarOf(files.map((name) => ({ name, data: Buffer.from(name) }))));
      const got = await get(bench.agent(), path, ['src', 'dist'], ['node_modules', 'dist/*.map']);
      const names = [...(await entriesOf(got)).keys()].map((name) => name.replace(/\/$/, ''));
      expect(names).toEqual(['src', 'src/a.ts', 'dist', 'dist/b.js']);
    });

    const ESCAPES: [string, Entry[]][] = [
      ['a parent path', [{ name: '../../tmp/escaped', data: Buffer.from('x') }]],
      ['an absolute path', [{ name: '/tmp/escaped', data: Buffer.from('x') }]],
      [
        'a symlink that the archive made',
        [
          { name: 'out', type: 'symlink', linkname: '/tmp' },
          { name: 'out/escaped', data: Buffer.from('x') },
        ],
      ],
      ['a hard link', [{ name: 'hard', type: 'link', linkname: '../../etc/passwd' }]],
      ['a device', [{ name: 'null', type: 'character-device' }]],
    ];
    it.each(ESCAPES)('refuses an entry that would leave by %s', async (_how, entries) => {
      const path = `/workspace/${freshId()}`;
      const refused = put(bench.agent(), path, await tarOf(entries));
      await expect(refused).rejects.toMatchObject({ code: 'SPEC_INVALID' });
      expect(await runIn(bench.agent(), ['test', '-e', '/tmp/escaped'])).toMatchObject({ code: 1 });
    });

    it('refuses what is no tar, and one that ends early', async () => {
      const whole = await tarOf([{ name: 'a', data: randomBytes(100_000) }]);
      for (const bad of [randomBytes(5000), whole.subarray(0, 50_000)]) {
        await expect(put(bench.agent(), '/workspace/bad', bad)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
      }
    });

    it('a source that fails ends the transfer with its own error', async () => {
      const source = async function* () {
        yield randomBytes(1000);
        throw new Error('the disk of the host broke');
      };
      await expect(bench.agent().putTar('/workspace/broken', Readable.from(source()))).rejects.toThrow(
        'disk of the host',
      );
      await bench.agent().ping();
    });

    it('a missing folder is NOT_FOUND', async () => {
      await expect(get(bench.agent(), '/no/such', [])).rejects.toMatchObject({ code: 'NOT_FOUND' });
    });

    it('a reader that leaves early disturbs nobody', async () => {
      const tar = bench.agent().getTar('/usr', []);
      for await (const _ of tar) break;
      expect(await runIn(bench.agent(), ['echo', 'well'])).toMatchObject({ stdout: 'well\n' });
    });
  });
}
