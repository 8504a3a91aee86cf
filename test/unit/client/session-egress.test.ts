/** What the egress of a session is stored as, and what of it is refused at once. */
import { expect, it } from 'vitest';
import { egressOf } from '../../../client/temporal/sessions/session-names.ts';

it('entries get the usual port where they name none: hosts take no others', () => {
  expect(egressOf(['api.example', '*.example', 'api.example:80'], [])).toEqual([
    'api.example:443',
    '*.example:443',
    'api.example:80',
  ]);
});

it('a port that guests cannot reach is refused, where it is known which they can', () => {
  expect(egressOf(['db.corp:5432'], ['db.corp:5432'])).toEqual(['db.corp:5432']);
  expect(() => egressOf(['db.corp:5432'], [])).toThrow(expect.objectContaining({ code: 'SPEC_INVALID' }));
  expect(egressOf(['db.corp:5432'], undefined)).toEqual(['db.corp:5432']);
});
