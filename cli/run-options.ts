import type { Command } from 'commander';
import { assignment, wholeNumber } from './option-values.ts';

/** Adds the options that say how a service is run, wherever its code comes from. */
export function withRunOptions(command: Command): Command {
  return withResources(command)
    .option('--id <id>', 'key of the workload: the same id with the same options is the same workload')
    .option('--deployment <id>', 'deployment that it belongs to')
    .option('--project <id>', 'project that it belongs to')
    .option('--env <name=value>', 'environment variable; may be given many times', assignment)
    .option('--env-file <file>', 'file of NAME=VALUE lines; --env goes before it')
    .option('--port <n>', 'port in the guest that the service listens on (default 8080)', wholeNumber(1, 65_535))
    .option('--host-port <n>', 'port on the host (default: a free one)', wholeNumber(1, 65_535))
    .option('--image <ref>', 'name, name:tag or name@sha256:… (default node)')
    .option('--priority <n>', 'who goes first where capacity is short: 1 before 5 (default 3)', wholeNumber(1, 5));
}

/** Adds the options that say how large a microVM is. */
export function withResources(command: Command): Command {
  return command
    .option('--vcpus <n>', 'virtual processors', wholeNumber(1, 64))
    .option('--mem-mib <n>', 'memory, MiB', wholeNumber(128, 262_144))
    .option('--disk-mib <n>', 'size of /workspace, MiB', wholeNumber(64, 65_536));
}
