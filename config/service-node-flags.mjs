/** V8 memory flags of the processes through which floods of guest output pass. */

/** Commands of `kiln` that run for months and handle guest output. */
const SERVICES = ['worker host', 'gateway run'];

/**
 * On a machine with much memory V8 collects hundreds of MiB of dead objects before it frees them. With these limits
 * both processes keep the size they have after a few seconds of a flood, at the same rate of lines; their live data
 * is some 50 MiB. The old space may grow to 1 GiB, and V8 sweeps it earlier because it has a limit.
 */
const FLAGS = ['--max-semi-space-size=16', '--max-old-space-size=1024'];

/**
 * @param {readonly string[]} args words of the `kiln` command
 * @param {string | undefined} nodeOptions NODE_OPTIONS: a flag that the operator sets there is left out here
 * @returns {string[]} flags for the Node that runs it
 */
export function serviceNodeFlags(args, nodeOptions = '') {
  if (!SERVICES.includes(args.slice(0, 2).join(' '))) return [];
  // Node accepts both spellings.
  const named = nodeOptions.replaceAll('_', '-');
  return FLAGS.filter((flag) => !named.includes(flag.slice(0, flag.indexOf('='))));
}
