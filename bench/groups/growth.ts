import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';
import { GuestBed, type Template } from '../guest-bed.ts';

const MEM_MIB = [256, 512, 1024, 2048];
const BASE_GIB = [2, 4, 8];
const BESIDE = [0, 25, 50, 100];
const GIB = 1024 ** 3;

/** How the time to a clone's first answer grows with guest memory, size of the base and number of clones beside it. */
export async function measureGrowth(options: GroupOptions): Promise<readonly Measurement[]> {
  const bed = await GuestBed.make(options.directory, options.signal);
  try {
    return [...(await byMemory(bed, options)), ...(await byBase(bed, options)), ...(await byNumber(bed, options))];
  } finally {
    await bed.destroy();
  }
}

async function byMemory(bed: GuestBed, { n, say }: GroupOptions): Promise<Measurement[]> {
  const measured: Measurement[] = [];
  for (const memMib of MEM_MIB) {
    const template = await bed.template(memMib);
    const rival = { words: `a cold boot with ${memMib} MiB`, samples: await answers(bed, memMib, Math.min(n, 3)) };
    measured.push({ name: `clone-${memMib}-mib`, unit: 'ms', kiln: await answers(bed, template, n), rival });
    await bed.remove(template);
    say(`growth: ${memMib} MiB`);
  }
  return measured;
}

async function byBase(bed: GuestBed, { n, say }: GroupOptions): Promise<Measurement[]> {
  const rival = { words: 'a cold boot from the image as it is', samples: await answers(bed, 512, Math.min(n, 3)) };
  const measured: Measurement[] = [];
  for (const gib of BASE_GIB) {
    const template = await bed.template(512, await bed.largeBase(gib * GIB));
    measured.push({ name: `clone-over-${gib}-gib`, unit: 'ms', kiln: await answers(bed, template, n), rival });
    await bed.remove(template);
    say(`growth: a base of ${gib} GiB`);
  }
  return measured;
}

async function byNumber(bed: GuestBed, { n, say }: GroupOptions): Promise<Measurement[]> {
  const template = await bed.template(512);
  const rival = { words: 'a cold boot, alone', samples: await answers(bed, 512, Math.min(n, 3)) };
  const measured: Measurement[] = [];
  let paused = 0;
  for (const count of BESIDE) {
    for (; paused < count; paused += 1) {
      const vmId = await bed.prepared(template);
      await bed.start(vmId);
      await bed.driver.pause(vmId);
    }
    measured.push({ name: `clone-beside-${count}`, unit: 'ms', kiln: await answers(bed, template, n), rival });
    say(`growth: beside ${count} paused clones`);
  }
  return measured;
}

async function answers(bed: GuestBed, from: Template | number, n: number): Promise<number[]> {
  const ms: number[] = [];
  for (let sample = 0; sample <= n; sample += 1) {
    const vmId = await bed.prepared(from);
    const { answeredMs } = await bed.start(vmId);
    await bed.destroy([vmId]);
    // The first one reads files that the others find in memory.
    if (sample > 0) ms.push(answeredMs);
  }
  return ms;
}
