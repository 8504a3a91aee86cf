/** Routes of what the workspaces of sessions were after their turns. */
import { z } from 'zod';
import { threadSchema } from '../../identifiers.ts';
import {
  fileListSchema,
  folderSchema,
  turnListSchema,
  turnSchema,
  turnViewSchema,
  workspacePathSchema,
} from '../session-files.ts';
import { projectQuerySchema } from '../session-request.ts';
import { BYTES_TYPE, type Route, TAR_TYPE } from './route.ts';

const threadParams = z.object({ thread: threadSchema });
const params = threadParams.extend({ turn: turnSchema });
const query = z.object({ project: projectQuerySchema });

export const SESSION_TURN_ROUTES = {
  listTurns: {
    method: 'GET',
    path: '/api/sessions/:thread/turns',
    tag: 'sessions',
    summary: 'The turns of a session whose workspace is kept, newest first',
    description:
      'The last 20 saves are kept. A turn after which the next run had already begun may have no save of its own. No VM is needed, and the session may have ended.',
    params: threadParams,
    query,
    responses: { 200: turnListSchema },
  },
  getTurn: {
    method: 'GET',
    path: '/api/sessions/:thread/turns/:turn',
    tag: 'sessions',
    summary: 'What is kept of the workspace as it was after a turn',
    description: 'With what was written beside the runs until the last save of that turn.',
    params,
    query,
    responses: { 200: turnViewSchema },
  },
  listTurnFiles: {
    method: 'GET',
    path: '/api/sessions/:thread/turns/:turn/files',
    tag: 'sessions',
    summary: 'The entries of a folder in the workspace as it was after a turn',
    params,
    query: query.extend({ dir: folderSchema }),
    responses: { 200: fileListSchema },
  },
  getTurnFile: {
    method: 'GET',
    path: '/api/sessions/:thread/turns/:turn/files/*path',
    tag: 'sessions',
    summary: 'A file of the workspace as it was after a turn',
    description: 'Also answers HEAD, like the route of a file of the session.',
    params: params.extend({ path: workspacePathSchema }),
    query,
    content: BYTES_TYPE,
    ranges: true,
  },
  getTurnTar: {
    method: 'GET',
    path: '/api/sessions/:thread/turns/:turn.tar',
    tag: 'sessions',
    summary: 'The whole workspace as it was after a turn, as a tar',
    description:
      'In the pax format: names of any bytes, times in full, links, owners, attributes. Sockets, pipes and devices are not kept. Where it breaks off, the transfer fails, and what was sent ends in the middle of an entry: tar refuses it, also behind a pipe. Also answers HEAD.',
    params,
    query,
    content: TAR_TYPE,
  },
} as const satisfies Record<string, Route>;
