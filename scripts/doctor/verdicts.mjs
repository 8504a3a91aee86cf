/**
 * What each finding means. Pure: a probe's facts in, `{state, found, fix?}` out; `state` is `ok`, `note` (works, with a
 * limit worth knowing) or `wrong`.
 */

const ok = (found) => ({ state: 'ok', found });
const note = (found, fix) => ({ state: 'note', found, fix });
const wrong = (found, fix) => ({ state: 'wrong', found, fix });

/** Longest path of a unix socket, less the longest name of a VM's socket below the runtime directory. */
const MAX_RUNTIME_DIR_BYTES = 107 - '/agent.sock'.length - 25;
const GIB = 1024 ** 3;

/** @returns numbers of the first dotted version in a text, or undefined. */
export function versionIn(text) {
  const match = /(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?/.exec(text ?? '');
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

function isAtLeast(version, wanted) {
  for (const [index, number] of wanted.entries()) {
    if (version[index] !== number) return version[index] > number;
  }
  return true;
}

export const verdicts = {
  node: ({ version }) => {
    const found = versionIn(version);
    if (found !== undefined && isAtLeast(found, [20, 3, 0])) return ok(version);
    return wrong(`${version}, 20.3 or newer is needed`, 'install Node 20 or newer');
  },
  /** A program that is asked for its version. */
  program: ({ name, wanted, fix, code, output }) => {
    if (code === 127) return wrong(`${name} is not installed, or not on PATH`, fix);
    if (code === 124) return wrong(`${name} does not answer`, fix);
    const found = versionIn(output);
    if (code !== 0 || found === undefined) return wrong(`${name} ended with code ${code}: ${firstLine(output)}`, fix);
    if (!isAtLeast(found, wanted)) return wrong(`${found.join('.')}, ${wanted.join('.')} or newer is needed`, fix);
    return ok(found.join('.'));
  },
  /** A part that set-up makes. */
  part: ({ text, error }) => {
    if (error !== undefined) return wrong(firstLine(error), 'npm run setup');
    return text === undefined ? wrong('missing, or made from other sources', 'npm run setup') : ok(text);
  },
  kvm: ({ exists, opens, group }) => {
    if (!exists) return note('no /dev/kvm: guests run in software emulation, several times slower');
    if (opens) return ok('opens; whether guests run under it is tried with the first one');
    const fix = `sudo usermod -aG ${group ?? 'kvm'} $USER, and log in again`;
    return note('/dev/kvm may not be opened by this user: guests run in software emulation', fix);
  },
  userNamespaces: ({ isRoot, works }) => {
    if (isRoot || works) return ok(isRoot ? 'not needed by root' : 'usable');
    const fix = 'sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000';
    return note('not usable: tests with the fake driver need them, guests do not', fix);
  },
  diskSpace: ({ path, freeBytes, wantedBytes }) => {
    if (freeBytes === undefined) return wrong(`${path} cannot be looked at`, `make ${path} readable for this user`);
    const found = `${(freeBytes / GIB).toFixed(1)} GiB free at ${path}`;
    if (freeBytes >= wantedBytes) return ok(found);
    return wrong(`${found}, ${wantedBytes / GIB} GiB are needed`, `free some space on the file system of ${path}`);
  },
  memory: ({ freeBytes }) => {
    const found = `${(freeBytes / GIB).toFixed(1)} GiB available`;
    return freeBytes >= 2 * GIB
      ? ok(found)
      : note(`${found}: two guests with all servers need about 2`, 'end something else');
  },
  writable: ({ path, error }) =>
    error === undefined ? ok(path) : wrong(`${path}: ${error}`, `sudo chown -R $(id -u) ${path}`),
  runtimeDir: ({ path, exists, ownerUid, mode, uid }) => {
    const bytes = Buffer.byteLength(path);
    if (bytes > MAX_RUNTIME_DIR_BYTES) {
      const found = `${path} has ${bytes} bytes, ${MAX_RUNTIME_DIR_BYTES} leave room for a socket's name`;
      return wrong(found, 'set KILN_RUNTIME_DIR to a shorter path');
    }
    if (!exists) return ok(`${path}, not made yet`);
    if (ownerUid !== uid)
      return wrong(`${path} belongs to user ${ownerUid}`, `remove ${path}, or set KILN_RUNTIME_DIR`);
    if ((mode & 0o022) !== 0) return wrong(`${path} can be written by others`, `chmod go-w ${path}`);
    return ok(path);
  },
  stack: ({ devJson, error, pidAlive, apiAnswers, home }) => {
    if (error !== undefined)
      return wrong(`dev.json of ${home} cannot be read: ${error}`, `rm ${home}/dev.json, then kiln dev`);
    if (devJson === undefined) return ok(`none runs on ${home}`);
    if (!pidAlive)
      return wrong(
        `dev.json of ${home} names process ${devJson.pid}, which is gone`,
        'kiln dev (it ends what is left first)',
      );
    if (!apiAnswers)
      return wrong(`${devJson.apiUrl} does not answer`, `kiln gateway restart; then read ${home}/logs/gateway.log`);
    return ok(`runs, ${devJson.apiUrl}`);
  },
  leftProcesses: ({ left, stackRuns, home }) => {
    if (stackRuns || left.length === 0) return ok(stackRuns ? 'all belong to the stack that runs' : 'none');
    const names = left.map(({ name, pid }) => `${name} (${pid})`).join(', ');
    return wrong(`${names} of an earlier stack on ${home} still run`, 'kiln dev ends them before it starts');
  },
  /** A server that this environment or the running stack names. */
  reachable: ({ address, error }) => {
    if (address === undefined) return ok('none is named');
    return error === undefined
      ? ok(`${address} answers`)
      : wrong(`${address}: ${error}`, 'start it, or correct its address');
  },
  registry: ({ name, code, output, fix }) =>
    code === 0 ? ok('answers') : note(`${name} got no answer: ${firstLine(output)}`, fix),
  port: ({ port, busy, stackRuns }) => {
    if (!busy || stackRuns) return ok(busy ? `${port} is this stack's` : `${port} is free`);
    return note(
      `${port} is taken: the next stack chooses another for its API`,
      `end what listens on ${port}, or set KILN_API_PORT`,
    );
  },
  /** What KILN_EGRESS_PRIVATE says; `entries` is absent before set-up. */
  privateNames: ({ text, entries, error }) => {
    if (text === undefined) return ok('none');
    if (error !== undefined) return wrong(error, 'correct KILN_EGRESS_PRIVATE, as the message says');
    return ok(entries === undefined ? `${text}, not checked` : entries.join(', '));
  },
  clock: ({ skewMs, against }) => {
    if (skewMs === undefined) return ok('nothing to compare with');
    const seconds = Math.round(Math.abs(skewMs) / 1000);
    if (seconds < 60) return ok(`agrees with ${against}`);
    return wrong(`${seconds} s away from that of ${against}`, 'sudo timedatectl set-ntp true');
  },
};

function firstLine(text) {
  return (text ?? '').trim().split('\n')[0]?.slice(0, 200) || 'no output';
}
