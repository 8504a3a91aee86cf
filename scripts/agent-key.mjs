/** Key of the guest agent's sources: the same sources have the same key on every machine. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** @returns the first 12 hex digits of a SHA-256 over `guest/agent`: every .go file, go.mod and go.sum, by name. */
export function agentKey(projectRoot = root) {
  const directory = join(projectRoot, 'guest', 'agent');
  const names = readdirSync(directory, { recursive: true })
    .map(String)
    .filter((name) => (name.endsWith('.go') && !name.endsWith('_test.go')) || name === 'go.mod' || name === 'go.sum')
    .sort();
  const hash = createHash('sha256');
  for (const name of names)
    hash
      .update(`${name}\0`)
      .update(readFileSync(join(directory, name)))
      .update('\0');
  return hash.digest('hex').slice(0, 12);
}
