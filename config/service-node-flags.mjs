/** How V8 is told to keep house in the processes that floods of guests' output pass through. */

/** Commands of `kiln` that run for months and handle what guests say. */
const SERVICES = ['worker host', 'gateway run'];

/**
 * On a machine with much memory V8 lets dead objects pile up to hundreds of MiB before it looks for them. Bounded like this
 * both processes stay the size they have after a few seconds of a flood, at the same rate of lines; what lives in them
 * is some 50 MiB. The old space may grow to 1 GiB and is swept the earlier for having a bound.
 */
const FLAGS = ['--max-semi-space-size=16', '--max-old-space-size=1024'];

/**
 * @param {readonly string[]} args words of the `kiln` command
 * @param {string | undefined} nodeOptions NODE_OPTIONS: a flag that is named there is the operator's to set
 * @returns {string[]} flags for the Node that runs it
 */
export function serviceNodeFlags(args, nodeOptions = '') {
  if (!SERVICES.includes(args.slice(0, 2).join(' '))) return [];
  // Node takes either for the other.
  const named = nodeOptions.replaceAll('_', '-');
  return FLAGS.filter((flag) => !named.includes(flag.slice(0, flag.indexOf('='))));
}
