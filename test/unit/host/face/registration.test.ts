import { describe, expect, it } from 'vitest';
import { hostEntrySchema } from '../../../../contracts/store/host-entry.ts';
import type { HostEntry } from '../../../../domain/capacity/host-entry.ts';
import { createRegistration } from '../../../../host/face/registration.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const facts = {
  hostId: 'h1',
  url: 'http://127.0.0.1:1',
  capacity: { vcpus: 2, memMib: 1000 },
  free: { vcpus: 1, memMib: 500 },
  images: ['sha256:x'],
  driver: 'fake/none',
  versions: { fake: '1' },
  draining: false,
};

describe('registration', () => {
  it('writes entries that readers understand, again and again, also after the store was away', async () => {
    const written: HostEntry[] = [];
    const third = Promise.withResolvers<void>();
    let failures = 1;
    const registration = createRegistration({
      everyMs: 1,
      facts: async () => facts,
      async publish(entry) {
        if (failures-- > 0) throw new Error('away');
        written.push(entry);
        if (written.length === 3) third.resolve();
      },
      logger: silentLogger,
    });
    await registration.start();
    await third.promise;
    await registration.stop();
    for (const entry of written) expect(hostEntrySchema.parse(entry)).toMatchObject(facts);
    const count = written.length;
    await new Promise((resolve) => setImmediate(resolve));
    expect(written).toHaveLength(count);
  });
});
