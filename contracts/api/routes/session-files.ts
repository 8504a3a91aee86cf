/** Routes of the files in the workspaces of sessions. */
import { z } from 'zod';
import { threadSchema } from '../../identifiers.ts';
import { fileListSchema, folderSchema, workspacePathSchema, writtenFileSchema } from '../session-files.ts';
import { projectQuerySchema } from '../session-request.ts';
import { BYTES_TYPE, type Route } from './route.ts';

const params = z.object({ thread: threadSchema, path: workspacePathSchema });
const query = z.object({ project: projectQuerySchema });

export const SESSION_FILE_ROUTES = {
  listSessionFiles: {
    method: 'GET',
    path: '/api/sessions/:thread/files',
    tag: 'sessions',
    summary: 'The entries of a folder in the workspace of a session',
    description:
      'Wakes a session only where not everything of it is saved, or begins it. A link is shown as a link. Of a very large folder, not all entries are listed.',
    params: z.object({ thread: threadSchema }),
    query: query.extend({ dir: folderSchema }),
    responses: { 200: fileListSchema },
  },
  getSessionFile: {
    method: 'GET',
    path: '/api/sessions/:thread/files/*path',
    tag: 'sessions',
    summary: 'A file of the workspace of a session',
    description:
      'Wakes a session only where not everything of it is saved, or begins it: what is saved comes from the store, with its turn as `x-kiln-turn`, also of a session that has ended. What was lost with a VM is NOT_FOUND, or as the save before had it. What is saved has a strong `etag`, and `If-Range` is honoured. Links are followed as long as they stay inside. Also answers HEAD: `x-kiln-kind` says what it is, `x-kiln-modified-at` when it was changed.',
    params,
    query,
    content: BYTES_TYPE,
    ranges: true,
  },
  putSessionFile: {
    method: 'PUT',
    path: '/api/sessions/:thread/files/*path',
    tag: 'sessions',
    summary: 'Write a file into the workspace of a session',
    description:
      'At most 64 MiB, with `Content-Length`. 201 where it is new, 200 where it replaced another. The file has its name only once it is whole. Folders above it are made; a link of that name is replaced. It is activity: the session expires later.',
    params,
    query: query.extend({
      wait: z.enum(['saved']).exactOptional().meta({
        description:
          'Answer once the file is in the store, too, or 60 s are over: `saved` says whether it is. Without it, the answer comes once the bytes are in the guest.',
      }),
    }),
    upload: [BYTES_TYPE],
    responses: { 200: writtenFileSchema, 201: writtenFileSchema },
  },
  deleteSessionFile: {
    method: 'DELETE',
    path: '/api/sessions/:thread/files/*path',
    tag: 'sessions',
    summary: 'Remove a file, a link or an empty folder from the workspace of a session',
    description: 'A folder that is not empty is a CONFLICT.',
    params,
    query,
    responses: { 200: z.object({ path: z.string() }) },
  },
} as const satisfies Record<string, Route>;
