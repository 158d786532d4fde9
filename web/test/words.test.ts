import { describe, expect, it } from 'vitest';
import { csv } from '../src/clip';
import { countdown, dayName, ending, failure, groupName, place, plainLine, refusal, titleFrom } from '../src/words';

describe('sentences', () => {
  const passing = ['rate_limited', 'quota_exceeded', 'credit_needed', 'busy', 'overloaded', 'human_mode'];
  const final = ['blocked', 'too_long', 'closed', 'age_required', 'region_restricted'];
  it('are different for each refusal', () => {
    const all = [...passing.map((c) => refusal(c, false)), ...final.map((c) => refusal(c, true))].map(
      (n) => `${n.head} ${n.body}`,
    );
    expect(new Set(all).size).toBe(all.length);
  });
  it('are different for each way an answer can fail', () => {
    const whys = [
      'interrupted',
      'upstream_error',
      'upstream_closed',
      'upstream_refused',
      'first_token_timeout',
      'idle_timeout',
      'model_unavailable',
      'upstream_garbage',
      'queue_timeout',
      'overloaded',
      'store_unavailable',
      'unknown_model',
      'content_filter',
      'unavailable',
    ];
    const all = whys.map((why) => `${ending(why, true).head} ${ending(why, true).body}`);
    expect(new Set(all).size).toBe(all.length);
  });
  it('exist for what is not known, and for names of the prototype', () => {
    for (const code of ['new_code', 'constructor', '__proto__', 'toString']) {
      for (const notice of [refusal(code, true), refusal(code, false), ending(code, true)])
        expect(notice.head).toMatch(/\.$|:/);
    }
    expect(failure(503).head).not.toBe(failure(404).head);
  });
  it('say that what was read is kept only when something was', () => {
    expect(ending('upstream_closed', true).body).toContain('kept');
    expect(ending('upstream_closed', false).body).not.toContain('kept');
  });
});

describe('small words', () => {
  it('count down', () => {
    expect(countdown(42_000)).toBe('0:42');
    expect(countdown(75_001)).toBe('1:16');
    expect(countdown(7_200_000)).toBe('2:00:00');
    expect(countdown(-5)).toBe('0:00');
  });
  it('place what waits', () => {
    expect([0, 1, 2, 3].map(place)).toEqual(['Next', '2nd', '3rd', '4th']);
  });
  it('name days', () => {
    const now = new Date(2026, 6, 15, 12).getTime();
    expect(dayName(now, now)).toBe('Today');
    expect(dayName(new Date(2026, 6, 14, 23, 59).getTime(), now)).toBe('Yesterday');
    expect(groupName(new Date(2026, 6, 10).getTime(), now)).toBe('This week');
    expect(groupName(new Date(2025, 1, 1).getTime(), now)).toBe('Earlier');
  });
  it('make a title from the first line that says something', () => {
    expect(titleFrom('\n\n## **Tides** and `moons`\nmore')).toBe('Tides and moons');
    expect(titleFrom('word '.repeat(40)).length).toBeLessThanOrEqual(61);
    expect(titleFrom('   \n ')).toBe('');
  });
  it('show a last line without markers', () => {
    expect(plainLine('**Good.** See [this](https://x.y) and\n- `that`')).toBe('Good. See this and that');
    expect(plainLine('```py\nx = 1\n```')).toBe('x = 1');
  });
});

describe('csv', () => {
  it('quotes, and disarms formulas', () => {
    expect(
      csv([
        ['a,b', 'say "x"'],
        ['=cmd()', '-5'],
      ]),
    ).toBe('"a,b","say ""x"""\r\n\'=cmd(),-5');
  });
});
