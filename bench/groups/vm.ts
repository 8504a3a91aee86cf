import type { StartedVm } from '../../ports/vm-driver.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';
import { GuestBed, pssMib, type Template } from '../guest-bed.ts';
import { measureReady } from './ready.ts';

const MEM_MIB = 512;
/** Cold VMs are some 200 MiB each; what many clones take is set against as many of them, of which few are measured. */
const COLD_MEASURED = 4;
const PAUSED = 100;
const RAN = 30;
const TOGETHER = 4;

/**
 * What a template is for. The rival is the same guest of the same image booted cold by the same driver in the same run;
 * disks are made before, for both.
 */
export async function measureVm(options: GroupOptions): Promise<readonly Measurement[]> {
  const bed = await GuestBed.make(options.directory, options.signal);
  try {
    const template = await bed.template(MEM_MIB);
    const measured = [
      ...(await starts(bed, template, options)),
      ...(await pauses(bed, template, options)),
      await manyAtOnce(bed, template, options),
      ...(await memory(bed, template, options)),
    ];
    await bed.destroy();
    return [...measured, ...(await measureReady(options))];
  } finally {
    await bed.destroy();
  }
}

async function starts(bed: GuestBed, template: Template, { n, say }: GroupOptions): Promise<Measurement[]> {
  const kiln = { answered: [] as number[], ready: [] as number[] };
  const rival = { answered: [] as number[], ready: [] as number[] };
  const once = async (from: Template | number, into: typeof kiln) => {
    const vmId = await bed.prepared(from);
    const { answeredMs, readyMs } = await bed.start(vmId);
    into.answered.push(answeredMs);
    into.ready.push(readyMs);
    await bed.destroy([vmId]);
  };
  // The first of each reads files that the others find in memory.
  await once(template, { answered: [], ready: [] });
  await once(MEM_MIB, { answered: [], ready: [] });
  for (let sample = 0; sample < n; sample += 1) {
    await once(template, kiln);
    await once(MEM_MIB, rival);
    say(`vm: start ${sample + 1} of ${n}`);
  }
  const words = 'a cold boot of the same guest';
  return [
    { name: 'clone-answers', unit: 'ms', kiln: kiln.answered, rival: { words, samples: rival.answered } },
    { name: 'clone-configured', unit: 'ms', kiln: kiln.ready, rival: { words, samples: rival.ready } },
  ];
}

async function pauses(bed: GuestBed, template: Template, { n, say }: GroupOptions): Promise<Measurement[]> {
  const vmId = await bed.prepared(template);
  const { agent } = (await bed.start(vmId)).vm;
  const [pause, resume, shutdown, boot]: [number[], number[], number[], number[]] = [[], [], [], []];
  for (let sample = 0; sample < n * 10; sample += 1) {
    pause.push(await took(() => bed.driver.pause(vmId)));
    resume.push(await took(() => bed.driver.resume(vmId, { wallClockMs: Date.now, deadlineMs: 10_000, agent })));
  }
  await bed.destroy([vmId]);
  for (let sample = 0; sample < Math.min(n, 3); sample += 1) {
    const cold = await bed.prepared(MEM_MIB);
    const { readyMs, vm } = await bed.start(cold);
    boot.push(readyMs);
    shutdown.push(await took(() => bed.driver.stop(cold, { graceMs: 30_000, agent: vm.agent })));
    await bed.destroy([cold]);
  }
  say('vm: pauses');
  return [
    { name: 'pause', unit: 'ms', kiln: pause, rival: { words: 'an ordered shutdown', samples: shutdown } },
    { name: 'resume', unit: 'ms', kiln: resume, rival: { words: 'a cold boot of the same guest', samples: boot } },
  ];
}

/** Time for each guest while several are started together, over and over. */
async function manyAtOnce(bed: GuestBed, template: Template, { n, say }: GroupOptions): Promise<Measurement> {
  const perGuest = async (from: Template | number): Promise<number> => {
    const vmIds = await Promise.all(Array.from({ length: TOGETHER }, () => bed.prepared(from)));
    const ms = await took(() => Promise.all(vmIds.map((vmId) => bed.start(vmId))));
    await bed.destroy(vmIds);
    return ms / TOGETHER;
  };
  const [kiln, samples]: [number[], number[]] = [[], []];
  for (let round = 0; round < n; round += 1) kiln.push(await perGuest(template));
  for (let round = 0; round < Math.min(n, 3); round += 1) samples.push(await perGuest(MEM_MIB));
  say(`vm: ${TOGETHER} at a time`);
  return {
    name: 'ms-per-clone-4-at-once',
    unit: 'ms',
    kiln,
    rival: { words: 'cold boots, as many at a time', samples },
  };
}

async function memory(bed: GuestBed, template: Template, { say }: GroupOptions): Promise<Measurement[]> {
  const cold = await guests(bed, MEM_MIB, COLD_MEASURED, idle);
  const coldEach = (await total(cold)) / COLD_MEASURED;
  await bed.destroy();
  const coldNode = await guests(bed, MEM_MIB, COLD_MEASURED, runNode);
  const coldNodeEach = (await total(coldNode)) / COLD_MEASURED;
  await bed.destroy();
  const few = await guests(bed, template, 10, idle);
  const fewEach = (await total(few)) / 10;
  await bed.destroy();
  say('vm: memory of many clones');
  const paused = await guests(bed, template, PAUSED, async (vm) => bed.driver.pause(vm.vmId));
  const pausedTotal = await total(paused);
  await bed.destroy();
  const ran = await guests(bed, template, RAN, async (vm) => {
    await runNode(vm);
    await bed.driver.pause(vm.vmId);
  });
  const ranTotal = await total(ran);
  await bed.destroy();
  const times = (count: number, each: number) => ({
    words: `${count} × the PSS of one of ${COLD_MEASURED} guests booted cold`,
    samples: [count * each],
  });
  return [
    { name: 'pss-of-one-of-10-clones', unit: 'MiB', kiln: [fewEach], rival: times(1, coldEach) },
    { name: 'pss-of-100-paused-clones', unit: 'MiB', kiln: [pausedTotal], rival: times(PAUSED, coldEach) },
    { name: 'pss-of-30-clones-that-ran-node', unit: 'MiB', kiln: [ranTotal], rival: times(RAN, coldNodeEach) },
  ];
}

async function guests(
  bed: GuestBed,
  from: Template | number,
  count: number,
  use: (vm: StartedVm) => Promise<void>,
): Promise<StartedVm[]> {
  const all: StartedVm[] = [];
  for (let made = 0; made < count; made += 1) {
    const { vm } = await bed.start(await bed.prepared(from));
    await use(vm);
    all.push(vm);
  }
  return all;
}

async function total(vms: readonly StartedVm[]): Promise<number> {
  const each = await Promise.all(vms.map(({ pid }) => pssMib(pid)));
  return each.reduce((sum, mib) => sum + mib, 0);
}

const idle = async (): Promise<void> => undefined;

async function runNode({ agent }: StartedVm): Promise<void> {
  const script = 'const http = require("node:http"); http.createServer(() => 0).listen(0, () => process.exit(0))';
  const exec = await agent.exec({ execId: 'node', argv: ['node', '-e', script], cwd: '/', output: 'wait' });
  for await (const _ of exec.output);
  await exec.exit;
}

async function took(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}
