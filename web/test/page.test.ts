import { MemoryStore } from '@kith/client';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Drafts } from '../src/drafts';
import { painter } from '../src/frame';

describe('drafts', () => {
  it('keep the newest text, also while an older one is still being written', async () => {
    const store = new MemoryStore();
    const drafts = new Drafts(store);
    drafts.save('c_1', 'a');
    drafts.save('c_1', 'ab');
    expect(await drafts.load('c_1')).toBe('ab');
    await vi.waitFor(async () => {
      expect(await store.get('draft:c_1')).toBe('ab');
    });
    expect(await new Drafts(store).load('c_1')).toBe('ab');
  });
  it('are apart from each other, and gone when sent', async () => {
    const store = new MemoryStore();
    const drafts = new Drafts(store);
    drafts.save('c_1', 'one');
    drafts.save('c_2', 'two');
    drafts.clear('c_1', 'one');
    await vi.waitFor(async () => {
      expect(await store.keys('draft:')).toEqual(['draft:c_2']);
    });
    expect(await drafts.load('c_1')).toBe('');
  });
  it('tell the other tabs what was sent', async () => {
    const heard = new Promise<[string, string]>((resolve) => {
      new Drafts(new MemoryStore()).onCleared = (conv, text) => {
        resolve([conv, text]);
      };
    });
    new Drafts(new MemoryStore()).clear('c_1', 'hello');
    expect(await heard).toEqual(['c_1', 'hello']);
  });
  it('cost nothing when the store refuses', async () => {
    const store = new MemoryStore();
    store.set = () => Promise.reject(new Error('full'));
    const drafts = new Drafts(store);
    drafts.save('c_1', 'a');
    await Promise.resolve();
    expect(await drafts.load('c_2')).toBe('');
  });
});

describe('painting', () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  function frames(): { next: () => void; clock: { now: number } } {
    const clock = { now: 0 };
    let due: FrameRequestCallback[] = [];
    vi.stubGlobal('requestAnimationFrame', (f: FrameRequestCallback) => due.push(f));
    vi.spyOn(performance, 'now').mockImplementation(() => clock.now);
    vi.spyOn(document, 'hidden', 'get').mockReturnValue(false);
    return {
      clock,
      next: () => {
        const now = due;
        due = [];
        clock.now += 16;
        for (const f of now) f(clock.now);
      },
    };
  }

  it('happens at most once a frame', () => {
    const { next } = frames();
    let painted = 0;
    const paint = painter(() => {
      painted++;
    });
    for (let i = 0; i < 50; i++) paint();
    next();
    next();
    expect(painted).toBe(1);
    paint();
    next();
    expect(painted).toBe(2);
  });
  it('leaves frames free when it is heavy', () => {
    const { next, clock } = frames();
    let painted = 0;
    const paint = painter(() => {
      painted++;
      clock.now += 30;
    });
    for (let i = 0; i < 12; i++) {
      paint();
      next();
    }
    expect(painted).toBeGreaterThan(1);
    expect(painted).toBeLessThan(5);
  });
});
