import * as restate from '@restatedev/restate-sdk';

const bench = restate.service({
  name: 'bench',
  handlers: {
    run: async (ctx, steps) => {
      let sum = 0;
      for (let n = 0; n < steps; n++) sum += await ctx.run(`s${n}`, async () => n);
      return sum;
    },
    parent: async (ctx, count) => {
      const calls = Array.from({ length: count }, () => ctx.serviceClient({ name: 'bench' }).run(1));
      return (await restate.RestatePromise.all(calls)).length;
    },
  },
});
restate.serve({ services: [bench], port: 9180 });
