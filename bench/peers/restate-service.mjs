import * as restate from '@restatedev/restate-sdk';

const bench = restate.service({
  name: 'bench',
  handlers: {
    run: async (ctx, steps) => {
      let sum = 0;
      for (let n = 0; n < steps; n++) sum += await ctx.run(`s${n}`, async () => n);
      return sum;
    },
  },
});
restate.serve({ services: [bench], port: 9180 });
