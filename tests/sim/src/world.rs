//! One story: nodes at work, faults as the seed draws them, the healing, and then the books.

use std::collections::BTreeMap;

use cluster::instance::State;
use cluster::takeover::Verdict;
use mail_model::{QueueId, Role};

use crate::chance::Chance;
use crate::disk::Weather;
use crate::fault::Fault;
use crate::heart::Heart;
use crate::ledger::Sums;
use crate::network::{Network, PATHS};
use crate::scheduler::{MS, SECOND, Scheduler, Time};
use crate::site::{Running, Site};
use crate::switch;
use crate::verdict;
use crate::weakness::Weakness;

/// Nodes get this long to come to rest once everything is healed.
const REST_MAX: Time = 200 * SECOND;

/// What is to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Story<'a> {
    pub(crate) seed: u64,
    pub(crate) weakness: Weakness,
    /// Faults are drawn from these.
    pub(crate) faults: &'a [Fault],
}

/// How it went.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) sums: Sums,
    pub(crate) in_doubt: u64,
    pub(crate) takeovers: usize,
    /// Ownerships beyond the first of each queue.
    pub(crate) claims: usize,
    pub(crate) trace: u64,
    pub(crate) hit: Vec<Fault>,
    /// What must not be; nothing, if all is well.
    pub(crate) wrong: Vec<String>,
    pub(crate) told: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Hurt(Fault),
    PowerOn(usize),
    Take(usize),
    Calm(usize),
    Refill,
    HealLinks,
}

struct World {
    site: Site,
    network: Network,
    hearts: Vec<Option<Heart>>,
    one_cache: bool,
    agenda: BTreeMap<(Time, u64), Deed>,
    deeds: u64,
    hit: Vec<Fault>,
    takeovers: usize,
}

/// Tells a story.
pub(crate) fn play(story: Story<'_>) -> Report {
    let mut chance = Chance::new(story.seed);
    let scheduler = Scheduler::new(chance.number());
    let count = [2, 2, 2, 3, 3, 4][chance.index(6)];
    let one_cache = chance.one_in(3);
    let site = Site::new(&scheduler, story.weakness, count, one_cache);
    let network = Network::new(&scheduler, count);
    let mut world = World {
        site,
        network,
        hearts: vec![None; count],
        one_cache,
        agenda: BTreeMap::new(),
        deeds: 0,
        hit: Vec::new(),
        takeovers: 0,
    };
    scheduler.tell(|| format!("seed {}: {count} nodes, one cache: {one_cache}", story.seed));
    for node in 0..count {
        world.power_on(node);
    }
    for _ in 0..chance.between(1, 6) {
        let at = SECOND + chance.between(1_500, 14_000) * MS;
        world.note(at, Deed::Hurt(Fault::draw(story.faults, &mut chance)));
    }
    world.run_until(16 * SECOND, &mut chance);
    world.heal();
    let rested = world.rest(&mut chance);
    let takeovers =
        world.takeovers + world.hearts.iter().flatten().map(|h| h.decided(Verdict::Taken)).sum::<usize>();
    let mut report = Report {
        takeovers,
        claims: world.site.disk.claims().saturating_sub(count),
        trace: scheduler.trace(),
        hit: world.hit.clone(),
        ..Report::default()
    };
    scheduler.end();
    report.wrong.extend(scheduler.failure());
    if report.wrong.is_empty() && !rested {
        report.wrong.push("the nodes did not come to rest".to_owned());
    }
    if report.wrong.is_empty() {
        report.in_doubt = verdict::judge(&world.site, &mut report.wrong);
    }
    report.sums = world.site.ledger.sums();
    report.told = scheduler.story();
    report
}

impl World {
    fn note(&mut self, at: Time, deed: Deed) {
        self.deeds += 1;
        self.agenda.insert((at, self.deeds), deed);
    }

    fn later(&mut self, span: Time, deed: Deed) {
        self.note(self.site.scheduler.now() + span, deed);
    }

    fn run_until(&mut self, end: Time, chance: &mut Chance) {
        while self.site.scheduler.now() < end && self.site.scheduler.failure().is_none() {
            let next = self.agenda.first_key_value().map_or(Time::MAX, |((at, _), _)| *at);
            let now = self.site.scheduler.now();
            if next > now {
                self.site.scheduler.sleep((next.min(end) - now).max(1));
                continue;
            }
            let Some((_, deed)) = self.agenda.pop_first() else { continue };
            self.site.scheduler.tell(|| format!("--- {deed:?}"));
            match deed {
                Deed::Hurt(fault) => self.hurt(fault, chance),
                Deed::PowerOn(node) => self.power_on(node),
                Deed::Take(node) => {
                    let queue = self.queue(node);
                    self.hearts
                        .iter()
                        .flatten()
                        .filter(|h| !h.is_dead())
                        .for_each(|h| h.order_takeover(&queue));
                }
                Deed::Calm(node) => self.site.disk.set_weather(node, |weather| *weather = Weather::default()),
                Deed::Refill => self.site.disk.limit_free(None),
                Deed::HealLinks => self.network.heal(),
            }
        }
    }

    fn power_on(&mut self, node: usize) {
        let alive = self.hearts[node].as_ref().is_some_and(|heart| !heart.is_dead());
        if !alive {
            self.bury(node);
            self.hearts[node] = Some(Heart::start(&self.site, &self.network, node));
        }
        let queue = self.queue(node);
        if self.site.runs(node, &queue).is_none() {
            switch::start(&self.site, node, &queue, Role::Primary, None);
        }
    }

    fn bury(&mut self, node: usize) {
        if let Some(heart) = self.hearts[node].take() {
            self.takeovers += heart.decided(Verdict::Taken);
            heart.kill();
        }
    }

    fn queue(&self, node: usize) -> QueueId {
        QueueId::of(self.site.nodes[node].id.clone())
    }

    fn some_switch(&self, chance: &mut Chance) -> Option<Running> {
        let living = self.site.living();
        (!living.is_empty()).then(|| living[chance.index(living.len())].clone())
    }

    /// Everything on a node ends, and it loses its cache.
    fn power_off(&mut self, nodes: &[usize], chance: &mut Chance) {
        for node in nodes {
            self.bury(*node);
            for running in self.site.living().into_iter().filter(|running| running.node == *node) {
                self.site.scheduler.kill(running.process);
            }
            self.network.forget(*node);
            let away = chance.between(500, 9_000) * MS;
            self.later(away, Deed::PowerOn(*node));
        }
        let mut caches: Vec<usize> = nodes.iter().map(|node| self.site.nodes[*node].cache).collect();
        caches.dedup();
        // The threads of what was killed are gone before the next step.
        self.site.scheduler.sleep(1);
        for cache in caches {
            self.site.disk.lose_power(cache);
        }
    }

    fn hurt(&mut self, fault: Fault, chance: &mut Chance) {
        self.hit.push(fault);
        let count = self.site.nodes.len();
        let node = chance.index(count);
        let other = (node + 1 + chance.index(count - 1)) % count;
        let span = chance.between(300, 9_000) * MS;
        let now = self.site.scheduler.now();
        match fault {
            Fault::KillSwitch | Fault::DieAtOperation | Fault::PauseAtOperation | Fault::PauseSwitch => {
                self.hurt_switch(fault, span, chance);
            }
            Fault::FreezeNode => self.freeze(node, span),
            Fault::PowerLoss if !self.one_cache => self.power_off(&[node], chance),
            Fault::PowerLoss | Fault::PowerLossOfAll => {
                let all: Vec<usize> = (0..count).collect();
                self.power_off(&all, chance);
            }
            Fault::KillHeart => {
                self.bury(node);
                self.later(span, Deed::PowerOn(node));
            }
            Fault::Isolate | Fault::CutOneWay | Fault::CutOnePath | Fault::BadLinks | Fault::Replay => {
                self.hurt_links(fault, (node, other), chance);
                self.later(span, Deed::HealLinks);
            }
            Fault::StallNode => {
                self.site.disk.set_weather(node, |weather| weather.stalled_until = now + span);
            }
            Fault::StallAll => {
                for node in 0..count {
                    self.site.disk.set_weather(node, |weather| weather.stalled_until = now + span);
                }
            }
            Fault::SlowNode => self.site.disk.set_weather(node, |weather| weather.slow = 40),
            Fault::FailNode => {
                let span = span / 4;
                self.site.disk.set_weather(node, |weather| weather.fails_until = now + span);
            }
            Fault::SyncFails => self.site.disk.set_weather(node, |weather| weather.sync_fails = true),
            Fault::Full => {
                self.site.disk.limit_free(Some(chance.below(256 << 10)));
                self.later(span, Deed::Refill);
            }
            Fault::StaleCache => self.site.disk.set_weather(node, |weather| {
                weather.old_listings = 3 * SECOND;
                weather.old_names = SECOND;
                weather.frozen_reads = true;
            }),
            Fault::WallJumps => {
                let days = if chance.one_in(2) { 2 } else { -2 };
                self.site.nodes[node].clock.jump(days * 86_400_000);
            }
            Fault::ForcedTakeover | Fault::RaceOfTakers | Fault::TakerDies | Fault::Handback => {
                self.order(fault, (node, other), chance);
            }
        }
        if matches!(fault, Fault::SlowNode | Fault::StaleCache) {
            self.later(span, Deed::Calm(node));
        }
    }

    fn hurt_switch(&mut self, fault: Fault, span: Time, chance: &mut Chance) {
        let Some(running) = self.some_switch(chance) else { return };
        let scheduler = &self.site.scheduler;
        let process = running.process;
        let soon = 1 + chance.below(60);
        if fault == Fault::DieAtOperation {
            scheduler.let_die(process, soon);
        } else if fault == Fault::PauseAtOperation {
            scheduler.let_pause(process, soon, 3 * span);
        } else if fault == Fault::PauseSwitch {
            scheduler.pause(process, 3 * span);
        } else {
            scheduler.kill(process);
        }
    }

    fn freeze(&self, node: usize, span: Time) {
        let scheduler = &self.site.scheduler;
        if let Some(heart) = &self.hearts[node] {
            scheduler.pause(heart.process, span);
        }
        for running in self.site.living().into_iter().filter(|running| running.node == node) {
            scheduler.pause(running.process, span);
        }
        self.site.nodes[node].clock.freeze(span);
    }

    fn hurt_links(&self, fault: Fault, (node, other): (usize, usize), chance: &mut Chance) {
        let others = (0..self.site.nodes.len()).filter(|third| *third != node);
        if fault == Fault::CutOneWay {
            (0..PATHS).for_each(|path| self.network.cut(node, other, path));
        } else if fault == Fault::BadLinks {
            self.network.set_quality(chance.below(70), chance.below(3 * SECOND));
        } else if fault == Fault::Replay {
            self.network.replay();
        } else {
            let one = chance.index(PATHS);
            let paths = if fault == Fault::CutOnePath { one..one + 1 } else { 0..PATHS };
            for (third, path) in others.flat_map(|third| paths.clone().map(move |path| (third, path))) {
                self.network.cut(node, third, path);
                self.network.cut(third, node, path);
            }
        }
    }

    fn order(&mut self, fault: Fault, (node, other): (usize, usize), chance: &mut Chance) {
        let queue = self.queue(node);
        let mut follows = false;
        let hearts = self.hearts.iter().enumerate().filter_map(|(at, heart)| Some((at, heart.as_ref()?)));
        for (at, heart) in hearts.filter(|(_, heart)| !heart.is_dead()) {
            if fault == Fault::Handback {
                heart.order_handback(&queue);
            } else if at == other || fault == Fault::RaceOfTakers {
                heart.order_takeover(&queue);
                let taker = heart.child(&queue).filter(|_| fault == Fault::TakerDies);
                if let Some(taker) = taker {
                    // Between its claim and its seal most of all.
                    let at = if chance.one_in(3) { 1 + chance.below(90) } else { chance.between(20, 50) };
                    self.site.scheduler.let_die(taker, at);
                    follows = true;
                }
            }
        }
        if follows {
            self.later(chance.between(20, 600) * MS, Deed::Take(node));
        }
    }

    /// Everything is well again, and no client sends any more.
    fn heal(&mut self) {
        self.site.scheduler.tell(|| "--- everything is healed".to_owned());
        self.agenda.clear();
        self.network.heal();
        self.site.disk.limit_free(None);
        for node in 0..self.site.nodes.len() {
            self.site.disk.set_weather(node, |weather| *weather = Weather::default());
            if let Some(heart) = &self.hearts[node] {
                self.site.scheduler.resume(heart.process);
            }
            self.power_on(node);
        }
        for running in self.site.living() {
            self.site.scheduler.resume(running.process);
        }
        self.site.ledger.close();
    }

    /// Waits until every queue is empty and owned. A service manager starts what stays away.
    fn rest(&mut self, chance: &mut Chance) -> bool {
        let end = self.site.scheduler.now() + REST_MAX;
        let mut quiet = 0;
        let mut absent = vec![0; self.site.nodes.len()];
        while self.site.scheduler.now() < end && self.site.scheduler.failure().is_none() {
            let until = self.site.scheduler.now() + SECOND / 2;
            self.run_until(until, chance);
            for (node, absent) in absent.iter_mut().enumerate() {
                let away = self.site.runs(node, &self.queue(node)).is_none();
                *absent = if away { *absent + 1 } else { 0 };
            }
            for (node, absent) in absent.iter_mut().enumerate() {
                if *absent > 10 {
                    *absent = 0;
                    self.power_on(node);
                }
            }
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            if quiet >= 4 {
                return true;
            }
        }
        false
    }

    fn is_quiet(&self) -> bool {
        let living = self.site.living();
        self.site.queues().iter().all(|queue| {
            living.iter().any(|running| {
                let books = running.handle.as_ref().filter(|_| running.queue == *queue);
                let empty = books.and_then(|handle| {
                    handle.books(|books| books.is_empty() && books.open_attempts().next().is_none())
                });
                running.state == State::Active && empty == Some(true)
            })
        })
    }
}
