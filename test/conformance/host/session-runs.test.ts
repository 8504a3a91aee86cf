/** Runs in a VM of the fake driver: each starts once, with all of its output and one end, whoever dies in between. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Host, HostOptions } from '../../../host/host.ts';
import { createSessionRuns } from '../../../host/runs/session-runs.ts';
import { writeStateFile } from '../../../linux/state-file.ts';
import type { AgentChannel, ExecOutput } from '../../../ports/guest-agent.ts';
import type { RunInVm, SessionRuns } from '../../../ports/runs.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import {
  bootVm,
  createFakeHost,
  type FakeHostPlaces,
  fakeDriverAt,
  placesBelow,
} from '../../support/host/fake-host.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';

const VM = 'abc-1-1';
const OWNER = { session: { project: 'default', thread: 't', incarnation: 1 }, runId: 'r' };
const NEVER = new AbortController().signal;
const LIMITS = { maxOutputBytes: 64 * 2 ** 20, maxUnsafeBytes: 2 ** 20, reattachPauseMs: 1, leftoversMs: 50 };

let places: FakeHostPlaces;
let store: ObjectStore;
let host: Host;
let runs: SessionRuns;

beforeEach(async () => {
  places = placesBelow(await mkdtemp(join(tmpdir(), 'kr-')));
  store = await freshObjectStore();
  host = await newHost();
  runs = runsOf(host);
  await bootVm(host, VM, 'w1');
});
afterEach(async () => {
  await host.vms.release(VM, { graceMs: 0 });
  await host.detach();
  store.close();
  const left = await whatIsLeft(places);
  await rm(places.root, { recursive: true, force: true });
  expect(left).toEqual([]);
});

async function newHost(
  guests: Parameters<typeof fakeDriverAt>[1] = {},
  more: Pick<HostOptions, 'privateNames' | 'resolveName'> = {},
): Promise<Host> {
  const owners = { lookup: async () => 'open' as const };
  const made = await createFakeHost(places, { store, owners, driver: fakeDriverAt(places, guests), ...more });
  await made.start();
  return made;
}

const loopback = async () => ['127.0.0.1'];

type RunVms = Parameters<typeof createSessionRuns>[0]['vms'];

/** Whoever waits for bytes uses a little CPU for each: here only what comes and goes is to count. */
function withoutCpu(vms: RunVms): RunVms {
  const idle = async () => ({ cpuMs: 0, processes: 1 });
  return {
    egressBytes: (vmId) => vms.egressBytes(vmId),
    async agent(vmId) {
      const agent = await vms.agent(vmId);
      const exec: AgentChannel['exec'] = async (...args) =>
        Object.create(await agent.exec(...args), { usage: { value: idle } });
      return Object.create(agent, { exec: { value: exec } });
    },
  };
}

function runsOf({ vms }: Host, limits: Partial<typeof LIMITS> = {}, seen = (all: RunVms) => all): SessionRuns {
  return createSessionRuns({
    ...LIMITS,
    ...limits,
    vms: seen(vms),
    vmDirectory: (vmId) => join(places.stateDir, 'vms', vmId),
    outputPath: ({ turn }) => join(places.root, `output-${turn}`),
    expectOutput: async () => undefined,
    expected: async () => undefined,
    onEnd: () => undefined,
  });
}

/** As a host worker that is killed and started again. */
async function restart(): Promise<void> {
  await host.detach();
  host = await newHost();
  runs = runsOf(host);
}

const turnOf = (turn: number): RunInVm => ({ vmId: VM, turn });
const shell = (script: string) => async () => ({ argv: ['sh', '-c', script], env: {} });
const run = (turn: number, script: string, timeoutMs = 60_000, silentMs = 60_000) =>
  runs.run({ ...turnOf(turn), ...OWNER, timeoutMs, silentMs, command: shell(script) }, NEVER);

async function outputOf(turn: number): Promise<string> {
  const pieces: ExecOutput[] = [];
  for (;;) {
    const last = pieces.at(-1);
    const after = last === undefined ? 0 : last.offset + (last.kind === 'gap' ? last.bytes : last.data.length);
    const more = await runs.readOutput(turnOf(turn), after, 1024);
    if (more.length === 0) break;
    pieces.push(...more);
  }
  return pieces.map((piece) => (piece.kind === 'gap' ? `[${piece.bytes} lost]` : String(piece.data))).join('');
}

const untilOutput = (turn: number, text: string) =>
  expect.poll(() => outputOf(turn).catch(() => ''), { interval: 10 }).toContain(text);
/** Each start of a process adds a line. */
const COUNTED = 'echo started >> /workspace/starts';

/** @returns how many processes of runs the guest has seen start */
async function starts(): Promise<number> {
  const agent = await host.vms.agent(VM);
  const argv = ['sh', '-c', 'cat /workspace/starts 2>/dev/null | wc -l'];
  const handle = await agent.exec({ execId: randomUUID(), argv, output: 'wait' });
  let text = '';
  for await (const piece of handle.output) if (piece.kind === 'data') text += piece.data;
  return Number(text);
}

async function untilExited(turn: number): Promise<void> {
  const agent = await host.vms.agent(VM);
  const exitOf = async () => (await agent.listExecs()).find(({ execId }) => execId === `run-${turn}`)?.exit;
  await expect.poll(exitOf, { interval: 10 }).toBeDefined();
}

describe('a run in a VM', () => {
  it('ends with its exit and all of its output', async () => {
    expect(await run(1, 'echo one; echo two >&2; exit 3')).toEqual({
      code: 3,
      signal: null,
      timedOut: false,
      silent: false,
      outputBytes: 8,
    });
    expect((await outputOf(1)).split('\n').toSorted()).toEqual(['', 'one', 'two']);
  });

  it('is started once, however many ask for it, and answers again after its end', async () => {
    const exits = await Promise.all([1, 2, 3].map(() => run(1, `${COUNTED}; sleep 0.2; echo done`)));
    exits.push(await run(1, 'echo another'));
    expect(new Set(exits.map((exit) => JSON.stringify(exit))).size).toBe(1);
    expect(await starts()).toBe(1);
    expect(await outputOf(1)).toBe('done\n');
  });

  it('goes on under the next host worker: one start, no byte twice, none lost', async () => {
    const script = `${COUNTED}; for i in 1 2 3 4 5 6; do echo line $i; sleep 0.1; done`;
    const before = run(1, script);
    before.catch(() => undefined);
    await untilOutput(1, 'line 2');
    await restart();
    expect(await run(1, script)).toMatchObject({ code: 0 });
    expect(await outputOf(1)).toBe('line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n');
    expect(await starts()).toBe(1);
  });

  it('that ended while no host worker was there is answered with its exit', async () => {
    const before = run(1, 'echo first; sleep 0.3; echo last; exit 4');
    before.catch(() => undefined);
    await untilOutput(1, 'first');
    await restart();
    await untilExited(1);
    expect(await run(1, 'echo never')).toMatchObject({ code: 4 });
    expect(await outputOf(1)).toBe('first\nlast\n');
  });

  it('is killed at its time limit, and says so', async () => {
    expect(await run(1, 'sleep 1000', 100)).toMatchObject({ timedOut: true });
  });

  it('that is cancelled is killed, and stays cancelled under the next host worker', async () => {
    const running = run(1, 'echo up; sleep 1000');
    const ended = expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
    await untilOutput(1, 'up');
    await runs.cancel(turnOf(1));
    await runs.cancel(turnOf(1));
    await ended;
    await restart();
    await expect(run(1, 'echo never')).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await outputOf(1)).toBe('up\n');
  });

  it('that is cancelled before it was asked for never starts; one that has ended stays as it ended', async () => {
    await runs.cancel(turnOf(1));
    await expect(run(1, COUNTED)).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await starts()).toBe(0);
    const exit = await run(2, 'exit 5');
    await runs.cancel(turnOf(2));
    expect(await run(2, 'echo never')).toEqual(exit);
  });

  it('comes after the one before it: a later turn waits for none, an earlier one is refused', async () => {
    await run(1, 'true');
    await run(2, 'true');
    await expect(run(1, 'true')).rejects.toMatchObject({ code: 'CONFLICT' });
    const running = run(3, 'sleep 1000');
    running.catch(() => undefined);
    await expect(run(4, 'true')).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(runs.cancel(turnOf(4))).rejects.toMatchObject({ code: 'CONFLICT' });
    await runs.cancel(turnOf(3));
    await running.catch(() => undefined);
    expect(await run(4, 'true')).toMatchObject({ code: 0 });
  });

  it('of which the guest knows nothing is lost', async () => {
    await writeStateFile(join(places.stateDir, 'vms', VM, 'run.json'), { state: 'started', turn: 1 });
    await expect(run(1, 'true')).rejects.toMatchObject({ code: 'RUN_LOST' });
  });

  it('tells whoever waits for its output when its VM is gone', async () => {
    const lost = run(1, 'echo begun; sleep 1000');
    lost.catch(() => undefined);
    await untilOutput(1, 'begun');
    const [{ data } = { data: undefined }] = (await runs.readOutput(turnOf(1), 0, 100)).map((piece) =>
      piece.kind === 'data' ? piece : { data: undefined },
    );
    const waits = { after: data?.length ?? 0, maxBytes: 100, waitMs: 600_000, signal: NEVER };
    const waiting = runs.followOutput(turnOf(1), waits);
    const status = await host.vms.status(VM);
    process.kill('pid' in status ? Number(status.pid) : 0, 'SIGKILL');
    await expect(lost).rejects.toMatchObject({ code: 'VMM_EXITED' });
    expect(await waiting).toEqual({ pieces: [], isLast: true });
    expect(await runs.followOutput(turnOf(1), waits)).toEqual({ pieces: [], isLast: true });
  });

  it('of which nothing is heard is killed, and says so; one that works in silence goes on', async () => {
    expect(await run(1, 'echo last; sleep 1000', 60_000, 1_000)).toMatchObject({ silent: true, signal: 'SIGKILL' });
    const busy = 'end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done; exit 5';
    expect(await run(2, busy, 60_000, 1_000)).toMatchObject({ silent: false, code: 5 });
  });

  it('that waits for bytes from outside goes on for as long as they come', async () => {
    const server = createServer((socket) => {
      const timer = setInterval(() => socket.write('.'), 100);
      for (const event of ['data', 'close', 'error']) socket.on(event, () => clearInterval(timer));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    await host.vms.release(VM, { graceMs: 0 });
    await host.detach();
    host = await newHost({ egressPorts: [port] }, { privateNames: [`dots.corp:${port}`], resolveName: loopback });
    runs = runsOf(host, {}, withoutCpu);
    await bootVm(host, VM, 'w1');
    await host.vms.setEgress(VM, { allow: [`dots.corp:${port}`], privateAllowed: [] });
    const untilMore = (bytes: number, then: string) =>
      `node -e 'let n = 0; const s = require("net").connect(${port}, "dots.corp"); s.on("data", (b) => { n += b.length; if (n > ${bytes}) { ${then} } })'`;
    expect(await run(1, untilMore(30, 'process.exit(4)'), 60_000, 1_000)).toMatchObject({ silent: false, code: 4 });
    expect(host.vms.egressBytes(VM)).toBeGreaterThan(30);
    expect(await run(2, untilMore(5, 's.write("no more")'), 60_000, 1_000)).toMatchObject({ silent: true });
    server.close();
  });

  it('leaves no process behind that would work on beside the next one', async () => {
    await run(1, 'setsid sh -c "while :; do echo still here; sleep 0.05; done" & exit 0');
    expect(
      await run(2, 'for d in /proc/[0-9]*; do tr "\\\\0" " " < $d/cmdline; done | grep "still [h]ere"'),
    ).toMatchObject({
      code: 1,
    });
  });

  it('with more output than is kept ends all the same', async () => {
    runs = runsOf(host, { maxOutputBytes: 100_000 });
    expect(await run(1, 'head -c 3000000 /dev/zero; exit 6')).toMatchObject({ code: 6, outputBytes: 3_000_000 });
    expect(await outputOf(1)).toMatch(/\[\d+ lost\]$/);
  });
});
