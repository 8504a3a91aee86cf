import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

/**
 * Key of the guest agent's sources: the first 12 hex digits of the sha256 over the sorted paths and contents of
 * guest/agent/**\/*.go, go.mod and go.sum. The binary that setup builds from them is `kiln-agent-<key>`.
 * @param {string} projectRoot folder that holds guest/
 * @returns {string}
 */
export function agentKey(projectRoot) {
  const folder = join(projectRoot, 'guest', 'agent');
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && (entry.name.endsWith('.go') || ['go.mod', 'go.sum'].includes(entry.name)))
    .map((entry) =>
      relative(folder, join(entry.parentPath ?? entry.path, entry.name))
        .split(sep)
        .join('/'),
    )
    .sort();
  const hash = createHash('sha256');
  for (const file of files) {
    const content = readFileSync(join(folder, file));
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex').slice(0, 12);
}
