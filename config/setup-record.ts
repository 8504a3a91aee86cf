import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { KilnError } from '../domain/failures.ts';
import { DIGEST_PATTERN } from '../domain/names.ts';

/** The results of set-up on this machine. */
const setupRecordSchema = z.object({
  /** Tools and images, shared by every checkout of this user. */
  cacheDir: z.string(),
  /** The pinned Node. */
  nodePath: z.string(),
  /** The Temporal CLI; absent where a server's address was given. */
  temporalPath: z.string().exactOptional(),
  /** The S3 server; absent where an endpoint was given. */
  versitygwPath: z.string().exactOptional(),
  /** Program that measures the rate of the machine's TSC. */
  tscProbePath: z.string().exactOptional(),
  /** Tries an API against its OpenAPI document; there once set-up has run for the tests. */
  schemathesisPath: z.string().exactOptional(),
  agent: z.object({ path: z.string(), key: z.string() }),
  image: z.object({ name: z.string(), digest: z.string().regex(DIGEST_PATTERN), directory: z.string() }),
});
export type SetupRecord = z.infer<typeof setupRecordSchema>;

/**
 * Reads the record that set-up wrote for this checkout.
 * @throws CONFIG_INVALID where set-up has not run
 */
export function readSetupRecord(): SetupRecord {
  const path = fileURLToPath(new URL('../node_modules/.kiln-setup.json', import.meta.url));
  try {
    return setupRecordSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new KilnError('CONFIG_INVALID', 'This checkout is not set up: run `npm run setup`.', { path }, error);
  }
}
