import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { readTextIfThere } from '../../linux/read-text.ts';

const schema = z.object({
  hostId: z.string(),
  apiToken: z.string(),
  hostToken: z.string(),
  s3AccessKey: z.string(),
  s3SecretKey: z.string(),
});

/** Names and secrets of one home, made once: a stack that is started again finds its data, its host and its callers. */
export type StackIdentity = z.infer<typeof schema>;

/** Finds or makes the identity of a home. The file is readable by its owner only. */
export async function stackIdentity(home: string): Promise<StackIdentity> {
  const path = join(home, 'identity.json');
  // A new identity may be made only where none exists: with another one the data would not be found again.
  const text = await readTextIfThere(path);
  if (text !== undefined) return schema.parse(JSON.parse(text));
  const secret = () => randomBytes(24).toString('hex');
  const identity: StackIdentity = {
    hostId: `dev-${createHash('sha256').update(home).digest('hex').slice(0, 8)}`,
    apiToken: secret(),
    hostToken: secret(),
    s3AccessKey: secret().slice(0, 20),
    s3SecretKey: secret(),
  };
  await writeFileAtomic(path, `${JSON.stringify(identity, null, 2)}\n`, { mode: 0o600 });
  return identity;
}
