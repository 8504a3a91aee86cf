import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { createAccelerator, tryBoots } from '../../../../vmm/qemu/accelerator.ts';
import { explainExit, lastShutdownReason } from '../../../../vmm/qemu/exit-events.ts';
import { kvmHostObjection } from '../../../../vmm/qemu/kvm-host.ts';
import { createTscRate, parseKernelLog, parseKhz } from '../../../../vmm/qemu/tsc-rate.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-host-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe('rate of the TSC', () => {
  it('is a whole number of kHz that a machine can have', () => {
    expect(parseKhz('2445404\n')).toBe(2_445_404);
    for (const text of ['', '0\n', '99\n', '-1', '2445.4', 'abc', '2445404 x', '99999999999']) {
      expect(parseKhz(text)).toBeUndefined();
    }
  });

  it('is read from the kernel log, the refined one first', () => {
    expect(parseKernelLog('[    0.000028] tsc: Detected 2445.404 MHz processor')).toBe(2_445_404);
    const both = 'tsc: Detected 2400.000 MHz processor\ntsc: Refined TSC clocksource calibration: 2399.985 MHz\n';
    expect(parseKernelLog(both)).toBe(2_399_985);
    expect(parseKernelLog('nothing of it')).toBeUndefined();
  });

  it('a probe that fails is no rate, and no crash', async () => {
    const broken = join(directory, 'probe');
    await writeFile(broken, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const rate = createTscRate({ probePath: broken, deadlineMs: 10_000 });
    // If the kernel log can be read, the rate comes from there.
    await rate().then(
      (khz) => expect(khz).toBeGreaterThan(100_000),
      (error) => expect(error).toMatchObject({ code: 'HYPERVISOR_UNAVAILABLE' }),
    );
  });

  it('is measured once', async () => {
    const probe = join(directory, 'probe');
    await writeFile(probe, `#!/bin/sh\necho x >> ${directory}/runs\necho 2000000\n`, { mode: 0o755 });
    const rate = createTscRate({ probePath: probe, deadlineMs: 10_000 });
    expect(await Promise.all([rate(), rate()])).toEqual([2_000_000, 2_000_000]);
    expect(await readFile(join(directory, 'runs'), 'utf8')).toBe('x\n');
  });
});

describe('first look at KVM', () => {
  const paths = () => ({
    device: join(directory, 'kvm'),
    modules: join(directory, 'modules'),
    cpuinfo: join(directory, 'cpuinfo'),
  });
  const machine = async (modules: string[], flags: string) => {
    await writeFile(paths().device, '');
    for (const name of modules) await mkdir(join(paths().modules, name), { recursive: true });
    await writeFile(paths().cpuinfo, `processor : 0\nflags\t\t: fpu ${flags} sse\n`);
  };

  it('no device, no KVM', async () => {
    expect(await kvmHostObjection(false, paths())).toBe('absent');
  });

  it('a pvm host is out, unless its owner says otherwise', async () => {
    await machine(['kvm', 'kvm_pvm', 'kvm_amd'], 'svm');
    expect(await kvmHostObjection(false, paths())).toBe('pvm');
    expect(await kvmHostObjection(true, paths())).toBeUndefined();
  });

  it('needs the module and the CPU flag', async () => {
    await machine(['kvm'], 'vmx');
    expect(await kvmHostObjection(false, paths())).toBe('no-cpu-support');
    await machine(['kvm_intel'], 'nothing');
    expect(await kvmHostObjection(false, paths())).toBe('no-cpu-support');
    await machine(['kvm_intel'], 'vmx');
    expect(await kvmHostObjection(false, paths())).toBeUndefined();
  });
});

describe('choice of the accelerator', () => {
  const said: string[] = [];
  const log = { info: (_: object, message: string) => said.push(message), warn: () => undefined };
  const options = { objection: async () => undefined, stateDir: '', qemuVersion: async () => '7.2.22', log } as const;
  const never = async () => {
    throw new Error('no trial was needed');
  };

  it('software emulation that was asked for needs no trial', async () => {
    const accelerator = createAccelerator({ ...options, stateDir: directory, mode: 'tcg' });
    expect(await accelerator.choose('sha256:a', never)).toBe('tcg');
    expect(await accelerator.expected()).toMatchObject({ accel: 'tcg', usable: true });
  });

  it('an objection needs no trial, and is said', async () => {
    const accelerator = createAccelerator({
      ...options,
      objection: async () => 'pvm',
      stateDir: directory,
      mode: 'auto',
    });
    expect(await accelerator.choose('sha256:a', never)).toBe('tcg');
    expect(await accelerator.expected()).toEqual({ accel: 'tcg', usable: true, reason: 'kvm: pvm' });
    expect(said.join()).toContain('kvm pvm');
  });

  it('a trial decides for an image, once on a boot of the host, also for the next worker', async () => {
    let trials = 0;
    const failing = async () => {
      trials++;
      return false;
    };
    expect(await createAccelerator({ ...options, stateDir: directory, mode: 'auto' }).choose('sha256:a', failing)).toBe(
      'tcg',
    );
    const later = createAccelerator({ ...options, stateDir: directory, mode: 'auto' });
    expect(await later.choose('sha256:a', failing)).toBe('tcg');
    expect(trials).toBe(1);
    expect(await later.expected()).toEqual({ accel: 'tcg', usable: true, reason: 'kvm: trial guest did not boot' });
    expect(await later.choose('sha256:b', async () => true)).toBe('kvm');
    expect(await later.expected()).toMatchObject({ accel: 'kvm', usable: true });
    const required = createAccelerator({ ...options, stateDir: directory, mode: 'kvm' });
    await expect(required.choose('sha256:a', never)).rejects.toMatchObject({ code: 'HYPERVISOR_UNAVAILABLE' });
    expect(said.join()).toContain('software emulation');
  });

  it('a trial is tried again for what speaks against the machine, not for anything else', async () => {
    let tries = 0;
    const late = async () => {
      tries++;
      throw new KilnError('AGENT_TIMEOUT', 'late');
    };
    expect(await tryBoots(2, late, log)).toBe(false);
    expect(tries).toBe(2);
    await expect(tryBoots(2, () => Promise.reject(new Error('bug')), log)).rejects.toThrow('bug');
  });
});

describe('why a VMM ended', () => {
  const event = (reason: string) =>
    `{"return": {}}\n{"timestamp":{"seconds":1},"event":"SHUTDOWN","data":{"guest":true,"reason":"${reason}"}}\n`;

  it('is what its last event says', () => {
    expect(lastShutdownReason(event('guest-reset'))).toBe('guest-reset');
    expect(lastShutdownReason(`${event('guest-reset')}{"event":"STOP"}\n`)).toBe('guest-reset');
    expect(lastShutdownReason('{"event":"STOP"}\n{"event":"SHUT')).toBeUndefined();
    expect(lastShutdownReason('')).toBeUndefined();
  });

  it('no content of the file is an error', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(lastShutdownReason(text)).toBeUndefined();
      }),
    );
  });

  it.each([
    ['guest-shutdown', { code: 0, signal: null }, 'guest-shutdown'],
    ['guest-reset', { code: 0, signal: null }, 'guest-panic'],
    ['guest-panic', undefined, 'guest-panic'],
    ['host-signal', { code: 0, signal: null }, 'killed'],
    ['host-qmp-quit', undefined, 'killed'],
    ['host-error', undefined, 'vmm-crash'],
    [undefined, { code: null, signal: 'SIGKILL' }, 'killed'],
    [undefined, { code: null, signal: 'SIGSEGV' }, 'vmm-crash'],
    [undefined, { code: 1, signal: null }, 'vmm-crash'],
    [undefined, undefined, 'unknown'],
  ] as const)('event %s, end %o: %s', (reason, end, expected) => {
    expect(explainExit(reason, end).reason).toBe(expected);
  });
});
