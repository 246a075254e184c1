//! `bench memory`: what is resident at the start and after 100,000 requests.

use anyhow::Result;

use crate::arguments::Plan;
use crate::bodies::Model;
use crate::closed::{self, Until};
use crate::contender::Lineup;
use crate::cores::Cores;
use crate::cpu::{self, Resident};
use crate::report::{Gate, Table, number};
use crate::tollgate::Sync;

const CONNECTIONS: usize = 64;
const REQUESTS: u64 = 100_000;
/// MB.
const RESIDENT_MOST: f64 = 40.0;

pub fn section(plan: &Plan) -> Result<()> {
    let cores = Cores::pick()?;
    let requests = if plan.quick { REQUESTS / 4 } else { REQUESTS };
    eprintln!("memory: {requests} requests");
    cores.at_load(|| {
        let mut lineup = Lineup::start(cores, &[Sync::Group])?;
        let mut table = Table::new(
            &format!("Resident memory, MB, over {requests} requests"),
            &[
                "",
                "at the start",
                "after a tenth",
                "after all",
                "of it heap and stacks",
            ],
        );
        let mut gates = Vec::new();
        for contender in &lineup.contenders {
            let start = cpu::resident(contender.pid());
            let mut after = |requests| -> Result<Resident> {
                closed::run(
                    &mut lineup.provider,
                    &contender.target(Model::Plain),
                    CONNECTIONS,
                    Until::Requests(requests),
                )?;
                cpu::until_idle(contender.pid());
                Ok(cpu::resident(contender.pid()))
            };
            match after(requests / 10)
                .and_then(|tenth| Ok((tenth, after(requests - requests / 10)?)))
            {
                Ok((tenth, all)) => {
                    table.row([
                        contender.name.clone(),
                        number(start.total, 1),
                        number(tenth.total, 1),
                        number(all.total, 1),
                        number(all.anonymous, 1),
                    ]);
                    if contender.name.starts_with("tollgate") {
                        gates.push(Gate::new(
                            &contender.name,
                            "resident memory",
                            all.total,
                            RESIDENT_MOST,
                            "MB",
                        ));
                    }
                }
                Err(error) => lineup
                    .absent
                    .push((contender.name.clone(), format!("{error:#}"))),
            }
        }
        table.print(&lineup.absent, &gates)
    })
}
