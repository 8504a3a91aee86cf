/**
 * The operator's setting KILN_EGRESS_PRIVATE: names of which private addresses may be dialled, and the ports at which
 * guests reach them. Pure.
 */
import { KilnError } from '../failures.ts';
import { parseEgressEntry, RESOLVER_PORT, USUAL_EGRESS_PORTS } from './rules.ts';

const MAX_ENTRIES = 256;
/** The guest's kernel is told the ports, on a command line of 2048 bytes. */
const MAX_PORTS = 64;

/**
 * Parses exact `name:port` entries, separated by commas.
 * @returns the entries, each once, and what is wrong: one text for each bad entry, with the fix
 */
export function parsePrivateNames(text: string): {
  readonly entries: readonly string[];
  readonly problems: readonly string[];
} {
  const words = text.split(',').map((word) => word.trim());
  const problems = words.flatMap((word) => problemOf(word) ?? []);
  const entries = [...new Set(words.flatMap(entryOf))];
  if (entries.length > MAX_ENTRIES) problems.push(`has ${entries.length} entries; at most ${MAX_ENTRIES} are possible`);
  const ports = extraEgressPorts(entries).length;
  if (ports > MAX_PORTS) problems.push(`has ${ports} ports besides 80 and 443; at most ${MAX_PORTS} are possible`);
  return { entries, problems };
}

function entryOf(word: string): string[] {
  const entry = parseEgressEntry(word);
  return entry === undefined ? [] : [`${entry.host}:${entry.port}`];
}

function problemOf(word: string): string | undefined {
  const shown = `"${word.slice(0, 300)}"`;
  if (word === '') return 'an entry is empty; give name:port entries with one comma between two of them';
  const entry = parseEgressEntry(word);
  if (entry === undefined) return `${shown} is not name:port; give a host name (no address) and a port of 1 to 65535`;
  if (entry.wildcard) return `${shown} is a wildcard; name each host: only exact names may have private addresses`;
  if (entry.port === RESOLVER_PORT) return `${shown} is the port of the guest's own resolver; use another port`;
  if (entry.host === 'localhost' || entry.host.endsWith('.localhost')) {
    return `${shown} is the guest itself, in a guest; give another name of this machine, e.g. one of /etc/hosts`;
  }
  return undefined;
}

/** @returns the ports of the entries that guests reach besides the usual ones, ascending */
export function extraEgressPorts(entries: readonly string[]): readonly number[] {
  const ports = entries.flatMap((entry) => parseEgressEntry(entry)?.port ?? []);
  return [...new Set(ports)].filter((port) => !USUAL_EGRESS_PORTS.includes(port)).sort((a, b) => a - b);
}

/**
 * Checks an allow-list: other ports than the usual ones can be reached only for names of the operator's setting.
 * @param allow `host:port` or `*.domain:port`
 * @throws SPEC_INVALID, naming the first entry that cannot be reached
 */
export function assertReachable(allow: readonly string[], privateNames: readonly string[]): void {
  const bad = allow.find((text) => {
    const entry = parseEgressEntry(text);
    if (entry === undefined) return true;
    return !USUAL_EGRESS_PORTS.includes(entry.port) && !entryOf(text).some((exact) => privateNames.includes(exact));
  });
  if (bad === undefined) return;
  throw new KilnError(
    'SPEC_INVALID',
    `Egress to "${bad.slice(0, 300)}" is not possible: ports other than 443 and 80 can be reached only for the exact names of the operator's setting KILN_EGRESS_PRIVATE.`,
  );
}
