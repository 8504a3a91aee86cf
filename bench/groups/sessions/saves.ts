import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { PACK_BYTES, WASTE_BYTES } from '../../../contracts/store/save-documents.ts';
import type { SessionName } from '../../../domain/names.ts';
import type { SaveMark } from '../../../domain/session/save-book.ts';
import { createSessionSaves } from '../../../host/saves/host-saves.ts';
import type { AgentChannel } from '../../../ports/guest-agent.ts';
import type { SessionSaves } from '../../../ports/saves.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import {
  type CountingProxy,
  httpRequests,
  startCountingProxy,
} from '../../../test/support/servers/counting-proxies.ts';
import { freshBucket } from '../../../test/support/servers/object-store.ts';
import { startServers } from '../../../test/support/servers/servers.global.ts';
import { silentLogger } from '../../../test/support/workers/silent-logger.ts';
import type { Measurement } from '../../figure.ts';
import type { GroupOptions } from '../../group-options.ts';
import { GuestBed } from '../../guest-bed.ts';

const MIB = 1024 * 1024;
const SIZES_MIB = [2, 10, 100];
const FILE_BYTES = 20 * 1024;
const MEM_MIB = 512;
const WORKSPACE = '/workspace';
const CACHE_BYTES = 4096 * MIB;
/** A dropped save stays readable for so long, as on a host. */
const CONDEMNED_MS = 600_000;
const MAX_TAR = 1024 * MIB;

/** Fills the workspace with files of bytes that do not compress, in folders of a hundred. */
const FILL = `
const fs = require('fs'), { randomBytes } = require('crypto');
const [count, bytes] = process.argv.slice(1).map(Number);
for (let n = 0; n < count; n += 1) {
  const folder = '/workspace/tree/' + Math.floor(n / 100);
  if (n % 100 === 0) fs.mkdirSync(folder, { recursive: true });
  fs.writeFileSync(folder + '/' + n, randomBytes(bytes));
}
`;
const CHANGE = `require('fs').writeFileSync('/workspace/tree/0/0', require('crypto').randomBytes(${FILE_BYTES}))`;

/**
 * What a save and a restore of a workspace take, each with the bytes and the calls of the store: after one file has
 * changed, and in a new guest of the same host (copies of packs are there) and of another one. The rival is a tar of
 * everything: packed in the guest and put into the store; fetched and unpacked.
 */
export async function measureSessionSaves(options: GroupOptions): Promise<readonly Measurement[]> {
  const servers = await startServers();
  const proxy = await startCountingProxy(new URL(servers.s3.endpoint).host, httpRequests);
  const store = await freshBucket(servers.s3, { endpoint: `http://${proxy.address}` });
  try {
    const bed = await GuestBed.make(options.directory, options.signal);
    try {
      const all: Measurement[] = [];
      for (const mib of SIZES_MIB) all.push(...(await measureSize({ ...options, bed, store, proxy }, mib)));
      return all;
    } finally {
      await bed.destroy();
    }
  } finally {
    store.close();
    await proxy.close();
    await servers.stop();
  }
}

interface Surroundings extends GroupOptions {
  readonly bed: GuestBed;
  readonly store: ObjectStore;
  readonly proxy: CountingProxy;
}

interface Samples {
  readonly save: number[];
  readonly upload: number[];
  readonly calls: number[];
  readonly sent: number[];
  readonly tarSave: number[];
  readonly tarBytes: number[];
  readonly here: number[];
  readonly there: number[];
  readonly untar: number[];
}

async function measureSize(around: Surroundings, mib: number): Promise<readonly Measurement[]> {
  const { n, say } = around;
  const samples: Samples = {
    ...{ save: [], upload: [], calls: [], sent: [], tarSave: [], tarBytes: [], here: [], there: [], untar: [] },
  };
  for (let sample = 0; sample < n; sample += 1) {
    await oneLife(around, mib, sample, samples);
    say(`session-saves: ${mib} MiB, ${sample + 1} of ${n}`);
  }
  const saveWords = 'tar of everything, packed in the guest and put into the store';
  const restoreWords = 'tar of everything, fetched from the store and unpacked in the guest';
  const of = (name: string) => `session-saves-${mib}MiB-${name}`;
  const whole = samples.save.map((ms, index) => ms + (samples.upload[index] ?? 0));
  return [
    { name: of('save'), unit: 'ms', kiln: samples.save, rival: { words: saveWords, samples: samples.tarSave } },
    { name: of('saved'), unit: 'ms', kiln: whole, rival: { words: saveWords, samples: samples.tarSave } },
    { name: of('bytes'), unit: 'bytes', kiln: samples.sent, rival: { words: saveWords, samples: samples.tarBytes } },
    { name: of('calls'), unit: 'calls', kiln: samples.calls, rival: { words: saveWords, samples: [1] } },
    { name: of('here'), unit: 'ms', kiln: samples.here, rival: { words: restoreWords, samples: samples.untar } },
    { name: of('there'), unit: 'ms', kiln: samples.there, rival: { words: restoreWords, samples: samples.untar } },
  ];
}

/** A workspace that is made, saved, changed in one file, saved again, and restored twice. */
async function oneLife(around: Surroundings, mib: number, sample: number, samples: Samples): Promise<void> {
  const { bed, store, proxy, signal, directory } = around;
  const session: SessionName = { project: 'bench', thread: `t-${mib}-${sample}`, incarnation: 1 };
  const guests = new Map<string, AgentChannel>();
  const boot = async () => {
    const vmId = await bed.prepared(MEM_MIB);
    guests.set(vmId, (await bed.start(vmId)).vm.agent);
    return vmId;
  };
  const hostAt = (name: string) => savesOf(join(directory, `${name}-${mib}-${sample}`), store, guests);
  const here = hostAt('here');
  const first = await boot();
  const agent = mustHave(guests, first);
  await run(agent, [FILL, String(Math.round((mib * MIB) / FILE_BYTES)), String(FILE_BYTES)]);
  const at = (epoch: number, vmId: string) => ({ session, epoch, vmId });
  await saveAll(here, at(1, first), { turn: 1, n: 1 }, signal);
  // What was written within the last two seconds before a save is read again by the next one.
  await run(agent, ['setTimeout(() => undefined, 2100)']);
  await saveAll(here, at(1, first), { turn: 2, n: 2 }, signal);
  await run(agent, [CHANGE]);
  samples.save.push(await timed(() => here.snapshot(at(1, first), { turn: 3, n: 3 }, signal)));
  const before = proxy.calls();
  let sent = 0;
  samples.upload.push(
    await timed(async () => {
      sent = (await here.upload(at(1, first), signal))?.sentBytes ?? 0;
    }),
  );
  samples.sent.push(sent);
  samples.calls.push(proxy.calls() - before);
  const key = `tars/${session.thread}`;
  samples.tarSave.push(
    await timed(async () => {
      const data = await buffer(agent.getTar(WORKSPACE, []));
      samples.tarBytes.push(data.length);
      await store.putBlob(key, { data });
    }),
  );
  await bed.destroy([first]);
  samples.here.push(await restored(bed, boot, (vmId) => here.restore(at(2, vmId), signal)));
  samples.there.push(await restored(bed, boot, (vmId) => hostAt('there').restore(at(3, vmId), signal)));
  samples.untar.push(
    await restored(bed, boot, async (vmId) => {
      const data = await store.readBlob(key, MAX_TAR);
      await mustHave(guests, vmId).putTar(WORKSPACE, Readable.from([data]));
    }),
  );
}

async function restored(
  bed: GuestBed,
  boot: () => Promise<string>,
  restore: (vmId: string) => Promise<unknown>,
): Promise<number> {
  const vmId = await boot();
  const ms = await timed(() => restore(vmId));
  await bed.destroy([vmId]);
  return ms;
}

async function saveAll(
  saves: SessionSaves,
  of: Parameters<SessionSaves['snapshot']>[0],
  mark: SaveMark,
  signal: AbortSignal,
): Promise<void> {
  await saves.snapshot(of, mark, signal);
  await saves.upload(of, signal);
}

function savesOf(stateDir: string, store: ObjectStore, guests: ReadonlyMap<string, AgentChannel>): SessionSaves {
  return createSessionSaves({
    stateDir,
    store,
    agent: async (vmId) => mustHave(guests, vmId),
    packBytes: PACK_BYTES,
    wasteBytes: WASTE_BYTES,
    maxCacheBytes: CACHE_BYTES,
    condemnedMs: CONDEMNED_MS,
    clock: Date.now,
    logger: silentLogger,
  });
}

function mustHave(guests: ReadonlyMap<string, AgentChannel>, vmId: string): AgentChannel {
  const agent = guests.get(vmId);
  if (agent === undefined) throw new Error(`there is no guest ${vmId}`);
  return agent;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

/** Runs a script of Node in the guest. @throws Error where it fails */
async function run(agent: AgentChannel, [script = '', ...args]: readonly string[]): Promise<void> {
  const execId = randomBytes(8).toString('hex');
  const exec = await agent.exec({ execId, argv: ['node', '-e', script, ...args], output: 'ring' });
  for await (const _ of exec.output);
  const { code } = await exec.exit;
  if (code !== 0) throw new Error(`a script in the guest ended with ${code}`);
}
