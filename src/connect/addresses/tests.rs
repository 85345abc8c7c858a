//! The rules of the module as tables, with a clock that the tests move.

use super::*;

/// An endpoint's addresses `192.0.2.N`, with a clock that the test moves.
struct Scene {
    addresses: Addresses,
    begin: Instant,
}

fn v4(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

impl Scene {
    fn new() -> Self {
        Self { addresses: Addresses::default(), begin: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.begin + Duration::from_secs(seconds)
    }

    /// Notes an answer of these addresses at this second.
    fn answer(&self, second: u64, addresses: &[u8]) {
        let addresses = addresses.iter().copied().map(v4).collect();
        let part = FamilyAnswer::new(Family::V4, addresses, self.at(second));
        self.addresses.learn(&[part]);
    }

    /// Returns those of the first 20 addresses that the name has.
    fn present(&self) -> Vec<u8> {
        let book = self.addresses.read();
        let present = |last: &u8| book.find(v4(*last)).is_some_and(|known| known.present);
        (1..=20).filter(present).collect()
    }

    fn order(&self, second: u64, given: &[u8]) -> Vec<u8> {
        let given = given.iter().copied().map(v4).collect();
        let last = |ip: IpAddr| if let IpAddr::V4(ip) = ip { ip.octets()[3] } else { 0 };
        self.addresses.in_order(given, self.at(second)).into_iter().map(last).collect()
    }
}

#[test]
fn fault_30_an_address_goes_after_three_answers_and_thirty_seconds_without_it() {
    for (answers, goes) in [
        (&[10, 20, 30][..], true),
        (&[10, 30], false),
        (&[1, 2, 29], false),
        (&[1, 2, 29, 30], true),
        (&[600], false),
    ] {
        let scene = Scene::new();
        scene.answer(0, &[1, 2]);
        for second in answers {
            scene.answer(*second, &[2, 3]);
        }
        let left = if goes { &[2, 3][..] } else { &[1, 2, 3] };
        assert_eq!(scene.present(), left, "{answers:?}");
    }
}

#[test]
fn fault_30_an_answer_that_was_kept_counts_once() {
    let scene = Scene::new();
    scene.answer(0, &[1]);
    scene.answer(40, &[2]);
    (0..10).for_each(|_| scene.answer(40, &[2]));
    assert_eq!(scene.present(), [1, 2]);
}

#[test]
fn fault_30_three_of_twelve_addresses_at_a_time_are_twelve_addresses() {
    let scene = Scene::new();
    for second in 0..3600 {
        let first = (second * 5 % 12) as u8;
        let subset = [first, first + 1, first + 2].map(|n| n % 12 + 1);
        scene.answer(second, &subset);
        if second > 12 {
            assert_eq!(scene.present(), (1..=12).collect::<Vec<_>>(), "{second}");
        }
    }
    // Four of them are taken away: they are given up once no answer has had them for ten minutes.
    let left = |second: u64| [0, 1, 2].map(|n| ((second + n) % 8) as u8 + 1);
    let mut gone_at = None;
    for second in 3600..4300 {
        scene.answer(second, &left(second));
        if scene.present().len() == 8 {
            gone_at = gone_at.or(Some(second));
        }
    }
    assert!(gone_at.is_some_and(|at| (4190..=4200).contains(&at)), "{gone_at:?}");
}

#[test]
fn fault_30_an_address_that_refuses_and_that_the_newest_answer_lacks_goes_at_once() {
    for refused_first in [true, false] {
        let scene = Scene::new();
        scene.answer(0, &[1, 2]);
        let refuse = || scene.addresses.failed(v4(1), FailureKind::Refused, scene.at(1));
        if refused_first {
            refuse();
            assert_eq!(scene.present(), [1, 2], "the name still has it");
        }
        scene.answer(2, &[2]);
        if !refused_first {
            assert_eq!(scene.present(), [1, 2]);
            refuse();
        }
        assert_eq!(scene.present(), [2], "{refused_first}");
    }
    let scene = Scene::new();
    scene.answer(0, &[1, 2]);
    scene.addresses.failed(v4(1), FailureKind::Slow, scene.at(1));
    scene.answer(2, &[2]);
    assert_eq!(scene.present(), [1, 2], "one that is slow may only be busy");
    scene.addresses.failed(v4(2), FailureKind::Refused, scene.at(3));
    scene.addresses.answered(v4(2));
    scene.answer(4, &[1]);
    assert_eq!(scene.present(), [1, 2], "it answered since");
}

#[test]
fn fault_30_an_answer_that_is_empty_takes_nothing_and_one_family_speaks_for_itself() {
    let scene = Scene::new();
    let v6: IpAddr = "2001:db8::1".parse().expect("an address");
    let part = |family, addresses, second| FamilyAnswer::new(family, addresses, scene.at(second));
    scene.addresses.learn(&[part(Family::V4, vec![v4(1)], 0), part(Family::V6, vec![v6], 0)]);
    for second in [20, 40, 60, 80] {
        scene
            .addresses
            .learn(&[part(Family::V4, vec![], second), part(Family::V6, vec![], second)]);
        scene.addresses.learn(&[part(Family::V4, vec![v4(1)], second + 1)]);
    }
    assert!(!scene.addresses.lost(v6), "its family was not heard of");
    for second in [90, 100, 110] {
        let none = part(Family::V6, vec![], second);
        scene.addresses.learn(&[part(Family::V4, vec![v4(1)], second), none]);
    }
    assert!(scene.addresses.lost(v6), "three times it was said that there is none");
    assert!(!scene.addresses.lost(v4(1)));
}

#[test]
fn fault_30_the_remembered_addresses_of_a_name_are_bounded() {
    let scene = Scene::new();
    let address = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    for number in 0..2000_u32 {
        let heard = scene.begin + Duration::from_millis(number.into());
        scene.addresses.learn(&[FamilyAnswer::new(Family::V4, vec![address(number)], heard)]);
    }
    assert_eq!(scene.addresses.read().known.len(), REMEMBERED_AT_ONCE);
    assert!(scene.addresses.read().find(address(0)).is_none());
    assert!(!scene.addresses.lost(address(0)), "what is forgotten is not lost");
    assert!(!scene.addresses.take_loss(), "and nothing is to be closed for it");
}

#[test]
fn fault_30_an_address_that_there_was_no_room_for_is_lost_once_it_has_been_unseen_for_ten_minutes()
{
    let scene = Scene::new();
    let others: Vec<IpAddr> =
        (0..256_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect();
    let hear = |second| {
        // One answer has half of them, and the next the others.
        for (half, millis) in others.chunks(128).zip(0..) {
            let heard = scene.at(second) + Duration::from_millis(millis);
            scene.addresses.learn(&[FamilyAnswer::new(Family::V4, half.to_vec(), heard)]);
        }
        (scene.addresses.lost(v4(1)), scene.addresses.take_loss())
    };
    scene.answer(0, &[1]);
    assert_eq!(hear(1), (false, false), "it may come again");
    assert!(scene.addresses.read().find(v4(1)).is_none());
    assert_eq!(hear(599), (false, false));
    assert_eq!(hear(600), (true, true));
    assert_eq!(hear(601), (true, false), "it is told once");
    assert_eq!(scene.addresses.read().known.len(), REMEMBERED_AT_ONCE);
    scene.answer(602, &[1]);
    assert!(!scene.addresses.lost(v4(1)), "it is back");
    assert!(!scene.addresses.lost(v4(99)), "others may be, now that one is forgotten anew");
}

#[test]
fn fault_30_the_addresses_that_went_are_forgotten_first() {
    let scene = Scene::new();
    scene.answer(0, &[1, 2]);
    for second in [10, 20, 30] {
        scene.answer(second, &[1]);
    }
    assert!(scene.addresses.take_loss());
    assert!(scene.addresses.lost(v4(2)));
    // The first is missing from answers too, but not given up when the bound is reached.
    for number in 0..255_u32 {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let heard = scene.at(31) + Duration::from_millis(number.into());
        scene.addresses.learn(&[FamilyAnswer::new(Family::V4, vec![address], heard)]);
    }
    let book = scene.addresses.read();
    assert!(book.find(v4(2)).is_none());
    assert!(book.find(v4(1)).is_some_and(|known| known.present));
}

#[test]
fn fault_30_an_address_that_went_long_ago_is_lost_until_it_comes_again() {
    let scene = Scene::new();
    scene.answer(0, &[1, 2]);
    scene.addresses.failed(v4(2), FailureKind::Slow, scene.at(1));
    for second in [10, 20, 30, 2000] {
        scene.answer(second, &[1]);
    }
    assert!(scene.addresses.lost(v4(2)));
    scene.answer(2001, &[1, 2]);
    assert!(!scene.addresses.lost(v4(2)));
    assert!(scene.addresses.read().failed_at(v4(2)).is_none(), "another server may have it");
}

#[test]
fn fault_31_addresses_that_failed_lately_are_tried_last() {
    let scene = Scene::new();
    scene.answer(0, &[1, 2, 3, 4]);
    assert_eq!(scene.order(0, &[4, 3, 2, 1]), [4, 3, 2, 1], "without failures the answer's order");
    scene.addresses.failed(v4(4), FailureKind::Slow, scene.at(2));
    scene.addresses.failed(v4(3), FailureKind::Refused, scene.at(1));
    // One address at a time takes its turn again.
    for (second, order) in
        [(2, [2, 1, 3, 4]), (30, [2, 1, 3, 4]), (31, [3, 2, 1, 4]), (32, [3, 2, 1, 4])]
    {
        assert_eq!(scene.order(second, &[4, 3, 2, 1]), order, "{second}");
    }
    scene.addresses.failed(v4(3), FailureKind::Slow, scene.at(33));
    assert_eq!(scene.order(33, &[4, 3, 2, 1]), [4, 2, 1, 3], "the next one");
    scene.addresses.failed(v4(4), FailureKind::Slow, scene.at(40));
    assert_eq!(scene.order(99, &[4, 1]), [1, 4], "the second time for twice as long");
    assert_eq!(scene.order(100, &[4, 1]), [4, 1]);
    scene.addresses.failed(v4(4), FailureKind::Slow, scene.at(101));
    scene.addresses.answered(v4(4));
    assert_eq!(scene.order(101, &[4, 1]), [4, 1], "it answered");
    (0..100).for_each(|_| scene.addresses.failed(v4(1), FailureKind::Slow, scene.at(200)));
    assert_eq!(scene.order(799, &[1, 2]), [2, 1]);
    assert_eq!(scene.order(800, &[1, 2]), [1, 2], "ten minutes at the longest");
}

#[test]
fn fault_31_an_address_that_is_not_known_is_tried_before_one_that_failed() {
    let scene = Scene::new();
    scene.answer(0, &[1]);
    scene.addresses.failed(v4(1), FailureKind::Slow, scene.at(0));
    assert_eq!(scene.order(1, &[1, 9]), [9, 1]);
}

#[test]
fn fault_30_the_loss_of_an_address_is_reported_once() {
    let scene = Scene::new();
    scene.answer(0, &[1, 2]);
    assert!(!scene.addresses.take_loss());
    for second in [10, 20, 30] {
        scene.answer(second, &[2]);
        assert_eq!(scene.addresses.take_loss(), second == 30, "{second}");
    }
    assert!(!scene.addresses.take_loss());
}

#[test]
fn fault_30_a_name_is_asked_for_again_when_its_answer_runs_out_but_not_at_once() {
    for (ttls, due) in [
        (&[Some(0)][..], Some(5)),
        (&[Some(30), None], Some(30)),
        (&[Some(60), Some(9)], Some(9)),
        (&[None], None),
    ] {
        let scene = Scene::new();
        let part = |ttl: &Option<u64>| FamilyAnswer {
            fresh_until: ttl.map(|ttl| scene.at(ttl)),
            ..FamilyAnswer::new(Family::V4, vec![v4(1)], scene.at(0))
        };
        scene.addresses.learn(&ttls.iter().map(part).collect::<Vec<_>>());
        assert_eq!(scene.addresses.asked_again_at(), due.map(|due| scene.at(due)), "{ttls:?}");
    }
}
