/** What an exec with `killLeftoversAfterMs` leaves behind: killed, however it hides, and nothing else with it. */
import { describe, expect, it } from 'vitest';
import type { ExecHandle } from '../../../ports/guest-agent.ts';
import { type Bench, freshId, runIn } from '../../support/guest/guest-under-test.ts';

/** Forks twice and leaves session, process group and output of its exec; tells its pid. */
const DAEMON = `setsid sh -c 'sleep 1000 >/dev/null 2>&1 </dev/null & echo $!'`;
/** Prints the groups of execs that exist. */
const GROUPS = [
  'at=/tmp/groups; mkdir -p $at && mount -t cgroup2 none $at || exit 1',
  'find $at$(sed -n s/^0:://p /proc/self/cgroup) -type d -name "exec-*"; umount $at',
].join('\n');

async function isAlive(bench: Bench, pid: string): Promise<boolean> {
  expect(pid.trim()).toMatch(/^\d+$/);
  return (await runIn(bench.agent(), ['grep', '-q', 'State:.[^ZX]', `/proc/${pid.trim()}/status`])).code === 0;
}

/** @returns output up to the first line that ends with a text; then the rest of it is thrown away */
async function lineOf(handle: ExecHandle, end: string): Promise<string> {
  let seen = '';
  for await (const piece of handle.output) {
    if (piece.kind === 'data') seen += piece.data.toString();
    if (seen.includes(`${end}\n`)) return seen;
  }
  throw new Error(`ended without a line: ${seen}`);
}

const firstLine = (handle: ExecHandle) => lineOf(handle, '');

/** @param groups whether the guest can have control groups */
export function describeLeftovers(bench: Bench, groups: boolean): void {
  describe('what an exec leaves behind', () => {
    it('announces whether it can kill it', () => {
      expect(['exec-cgroup', 'exec-usage'].map((name) => bench.agent().features.has(name))).toEqual([groups, groups]);
    });

    it('lives on where nobody asked', async () => {
      const { stdout } = await runIn(bench.agent(), ['sh', '-c', DAEMON]);
      expect(await isAlive(bench, stdout)).toBe(true);
      await runIn(bench.agent(), ['kill', '-9', stdout.trim()]);
    });

    if (groups) describeKilling(bench);
    else describeRefusal(bench);
  });
}

function describeRefusal(bench: Bench): void {
  it('is refused where nothing can kill it', async () => {
    const request = { execId: freshId(), argv: ['true'], output: 'wait', killLeftoversAfterMs: 1 } as const;
    await expect(bench.agent().exec(request)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
}

function describeKilling(bench: Bench): void {
  it('a daemon is killed after the first process, whose exit is told', async () => {
    const seen = await runIn(bench.agent(), ['sh', '-c', `${DAEMON}; exit 3`], { killLeftoversAfterMs: 50 });
    expect(seen).toMatchObject({ code: 3, signal: null, timedOut: false });
    expect(await isAlive(bench, seen.stdout)).toBe(false);
  });

  it('another exec, and what it started, is not', async () => {
    const other = await bench.agent().exec({
      ...{ execId: freshId(), argv: ['sh', '-c', `${DAEMON}; sleep 1000`], output: 'wait' },
      killLeftoversAfterMs: 60_000,
    });
    const daemon = await firstLine(other);
    await runIn(bench.agent(), ['sh', '-c', DAEMON], { killLeftoversAfterMs: 0 });
    expect(await isAlive(bench, daemon)).toBe(true);
    await other.signal('SIGKILL');
    expect(await other.exit).toMatchObject({ code: null, signal: 'SIGKILL' });
    expect(await isAlive(bench, daemon)).toBe(false);
  });

  it('processes that fork for ever are caught, as a user, too', async () => {
    const script = `/tmp/fork-${freshId()}`;
    const text = `#!/bin/sh\n[ -e ${script}.stop ] || setsid ${script} &\n`;
    await runIn(bench.agent(), ['sh', '-c', 'cat > "$0"; chmod 755 "$0"', script], { stdin: Buffer.from(text) });
    const start = Array.from({ length: 4 }, () => `${script} &`).join(' ');
    const user = { uid: 12345, gid: 12345, cwd: '/tmp' };
    for (const more of [{}, user]) {
      await runIn(bench.agent(), ['sh', '-c', start], { ...more, killLeftoversAfterMs: 100 });
      const scan = `for n in 1 2 3 4 5; do grep -al "^/bin/sh.${script}" /proc/[0-9]*/cmdline; done 2>/dev/null; true`;
      expect((await runIn(bench.agent(), ['bash', '-c', scan])).stdout).toBe('');
    }
    await runIn(bench.agent(), ['touch', `${script}.stop`]);
  });

  it('is heard until it is killed', async () => {
    const late = `(setsid sh -c 'sleep 0.1; echo late; head -c 300000 /dev/zero; echo; echo last') & echo first`;
    const { stdout } = await runIn(bench.agent(), ['sh', '-c', late], { killLeftoversAfterMs: 60_000 });
    expect([stdout.length, stdout.slice(0, 11), stdout.slice(-5)]).toEqual([300_017, 'first\nlate\n', 'last\n']);
  });

  it('is killed although nobody takes its output', async () => {
    const flood = `setsid sh -c 'echo $$; exec yes' & sleep 0.1`;
    const request = { execId: freshId(), argv: ['sh', '-c', flood], output: 'wait', bufferBytes: 64 * 1024 } as const;
    const first = await bench.agent().exec({ ...request, killLeftoversAfterMs: 100 }, { manualAck: true });
    const pid = Number.parseInt(await firstLine(first), 10);
    const gone = `while grep -q 'State:.[^ZX]' /proc/${pid}/status; do sleep 0.01; done 2>/dev/null`;
    await runIn(bench.agent(), ['sh', '-c', gone]);
    const rest = await (await bench.reattach()).attachExec(request.execId);
    for await (const _ of rest.output);
    expect(await rest.exit).toMatchObject({ code: 0 });
  });

  it('SIGKILL ends all of it, also when the first process has exited; another signal only the process group', async () => {
    const argv = ['sh', '-c', `${DAEMON}; exit 4`];
    const request = { execId: freshId(), argv, output: 'wait', killLeftoversAfterMs: 60_000 } as const;
    const handle = await bench.agent().exec(request);
    const daemon = await firstLine(handle);
    await handle.signal('SIGTERM');
    expect(await isAlive(bench, daemon)).toBe(true);
    await handle.signal('SIGKILL');
    await handle.exit;
    expect(await isAlive(bench, daemon)).toBe(false);
    await handle.signal('SIGKILL');
  });

  it('is killed although the host was away meanwhile, and no group is left', async () => {
    const request = {
      execId: freshId(),
      argv: ['sh', '-c', DAEMON],
      output: 'wait',
      killLeftoversAfterMs: 300,
    } as const;
    const daemon = await firstLine(await bench.agent().exec(request));
    const again = await (await bench.reattach()).attachExec(request.execId);
    expect(await again.exit).toMatchObject({ code: 0 });
    expect(await isAlive(bench, daemon)).toBe(false);
    expect(await runIn(bench.agent(), ['sh', '-c', GROUPS])).toMatchObject({ code: 0, stdout: '', stderr: '' });
  });

  it('has a control group while it lives, and an exec that does not ask has none', async () => {
    const request = { execId: freshId(), argv: ['sh', '-c', 'echo; sleep 1000'], output: 'wait' } as const;
    const handle = await bench.agent().exec({ ...request, killLeftoversAfterMs: 0 });
    await firstLine(handle);
    expect((await runIn(bench.agent(), ['sh', '-c', GROUPS])).stdout).toMatch(/^\S+\/exec-\d+\n$/);
    await handle.signal('SIGKILL');
    await handle.exit;
    const bad = { ...request, execId: freshId(), killLeftoversAfterMs: 60_001 };
    await expect(bench.agent().exec(bad)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    expect((await runIn(bench.agent(), ['sh', '-c', GROUPS])).stdout).toBe('');
  });

  it('its use of CPU is told: after the first process, and after its end, on another attach', async () => {
    const request = { execId: freshId(), output: 'wait', killLeftoversAfterMs: 60_000 } as const;
    const spin = `node -e 'while (process.cpuUsage().user < 200_000);'`;
    const script = `${spin}; (setsid sh -c 'echo spun; sleep 1000') & exit 0`;
    const handle = await bench.agent().exec({ ...request, argv: ['sh', '-c', script] });
    await lineOf(handle, 'spun');
    const after = await handle.usage();
    expect(after.cpuMs).toBeGreaterThanOrEqual(200);
    expect(after.processes).toBeGreaterThan(0);
    await handle.signal('SIGKILL');
    await handle.exit;
    const again = await (await bench.reattach()).attachExec(request.execId);
    const last = await again.usage();
    expect(last.cpuMs).toBeGreaterThanOrEqual(after.cpuMs);
    expect(last.processes).toBe(0);
  });

  it('the usage of an exec that did not ask is UNSUPPORTED', async () => {
    const handle = await bench.agent().exec({ execId: freshId(), argv: ['true'], output: 'wait' });
    await expect(handle.usage()).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
}
