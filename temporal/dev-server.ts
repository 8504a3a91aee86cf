import { SEARCH_ATTRIBUTES } from '../domain/names.ts';

export interface DevServerOptions {
  readonly port: number;
  readonly uiPort: number;
  readonly namespace: string;
  /** SQLite file; the server goes on where it was when it is started again on it. */
  readonly databasePath: string;
}

/**
 * The dev server has one history shard whose queues poll at most 20 times a second by default: every dispatch in a
 * steady stream then waits up to 50 ms. Measured: 150 ms against 40 ms for a workflow of one activity.
 */
const UNTHROTTLED = [
  'history.transferProcessorMaxPollRPS=2000',
  'history.timerProcessorMaxPollRPS=2000',
  'history.visibilityProcessorMaxPollRPS=2000',
];

/** @returns arguments of `temporal` for a file-backed dev server on loopback. */
export function devServerArguments(options: DevServerOptions): string[] {
  return [
    'server',
    'start-dev',
    '--ip=127.0.0.1',
    `--port=${options.port}`,
    `--ui-port=${options.uiPort}`,
    `--namespace=${options.namespace}`,
    `--db-filename=${options.databasePath}`,
    '--sqlite-pragma=journal_mode=wal',
    '--sqlite-pragma=synchronous=normal',
    '--log-level=warn',
    ...SEARCH_ATTRIBUTES.map((name) => `--search-attribute=${name}=Keyword`),
    ...UNTHROTTLED.map((setting) => `--dynamic-config-value=${setting}`),
  ];
}
