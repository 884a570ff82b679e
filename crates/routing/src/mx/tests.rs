use super::*;

fn domain(text: &str) -> Domain {
    Domain::new(text).unwrap()
}

fn own() -> Own {
    Own { names: vec![domain("us.test")], addresses: vec!["192.0.2.25".parse().unwrap()] }
}

fn records(list: &[(u16, &str)]) -> MxAnswer {
    let host = |name: &str| (name != ".").then(|| domain(name));
    let record = |(preference, name): &(u16, &str)| Mx { preference: *preference, host: host(name) };
    MxAnswer::Records(list.iter().map(record).collect())
}

fn hosts(answer: MxAnswer) -> Result<Vec<String>, MxFault> {
    let found = candidates(&domain("d.test"), answer, &own())?;
    Ok(found.into_iter().map(|c| c.host.to_string()).collect())
}

/// `a=192.0.2.1,2001:db8::1` is a host with its addresses, `a?` one that cannot be looked up.
fn found(list: &[(u16, &str)]) -> Vec<(Candidate, HostAnswer)> {
    let one = |(preference, text): &(u16, &str)| {
        let (name, answer) = match text.split_once('=') {
            Some((name, "")) => (name, HostAnswer::Addresses(Vec::new())),
            Some((name, addresses)) => {
                let addresses = addresses.split(',').map(|a| a.parse().unwrap()).collect();
                (name, HostAnswer::Addresses(addresses))
            }
            None => (text.trim_end_matches('?'), HostAnswer::Unknown("SERVFAIL".to_owned())),
        };
        (Candidate { preference: *preference, host: domain(name) }, answer)
    };
    list.iter().map(one).collect()
}

fn tried(list: &[(u16, &str)]) -> Result<Vec<String>, MxFault> {
    let mut number = 0;
    let random = || {
        number += 1;
        number
    };
    let exchanges = exchanges(&domain("d.test"), found(list), &own(), AddressOrder::default(), random)?;
    Ok(exchanges.into_iter().map(|e| e.host.to_string()).collect())
}

#[test]
fn the_lowest_preference_comes_first_and_a_host_comes_once() {
    let answer = records(&[(20, "b.test"), (10, "a.test"), (30, "a.test"), (5, "c.test")]);
    assert_eq!(hosts(answer).unwrap(), ["c.test", "a.test", "b.test"]);
}

#[test]
fn without_mx_records_the_domain_is_its_own_host_and_without_the_domain_nobody_is() {
    assert_eq!(hosts(MxAnswer::NoRecords).unwrap(), ["d.test"]);
    assert_eq!(hosts(MxAnswer::NoDomain), Err(MxFault::NoDomain));
}

#[test]
fn a_null_mx_refuses_all_mail_only_if_it_stands_alone() {
    assert_eq!(hosts(records(&[(0, ".")])), Err(MxFault::Null));
    assert_eq!(hosts(records(&[(0, "."), (10, "a.test")])).unwrap(), ["a.test"]);
}

#[test]
fn hosts_after_an_own_name_are_left_out_and_nobody_before_it_is_a_loop() {
    let answer = records(&[(10, "a.test"), (20, "us.test"), (20, "b.test"), (30, "c.test")]);
    assert_eq!(hosts(answer).unwrap(), ["a.test"]);
    assert_eq!(hosts(records(&[(10, "us.test"), (20, "a.test")])), Err(MxFault::Loop));
    let answer = MxAnswer::NoRecords;
    assert_eq!(candidates(&domain("us.test"), answer, &own()), Err(MxFault::Loop));
}

#[test]
fn hosts_after_an_own_address_are_left_out_too() {
    let list =
        [(10, "a=192.0.2.1"), (20, "b=192.0.2.25,192.0.2.9"), (20, "c=192.0.2.3"), (30, "d=192.0.2.4")];
    assert_eq!(tried(&list).unwrap(), ["a"]);
    assert_eq!(tried(&[(10, "b=::ffff:192.0.2.25"), (20, "c=192.0.2.3")]), Err(MxFault::Loop));
}

#[test]
fn a_host_without_an_address_is_passed_over_and_none_at_all_is_final_unless_one_is_unknown() {
    assert_eq!(tried(&[(10, "a="), (20, "b?"), (30, "c=192.0.2.3")]).unwrap(), ["c"]);
    assert_eq!(tried(&[(10, "a="), (20, "b=")]), Err(MxFault::NoAddress));
    assert_eq!(tried(&[(0, "d.test=")]), Err(MxFault::NoHost));
    assert_eq!(tried(&[(10, "a="), (20, "b?")]), Err(MxFault::Unknown("SERVFAIL".to_owned())));
    // What cannot be looked up comes before ourselves: it may be the host that takes it.
    assert_eq!(tried(&[(10, "a?"), (20, "b=192.0.2.25")]), Err(MxFault::Unknown("SERVFAIL".to_owned())));
}

#[test]
fn hosts_of_one_preference_are_tried_in_the_order_of_the_numbers() {
    let list = [(10, "a=192.0.2.1"), (10, "b=192.0.2.2"), (10, "c=192.0.2.3"), (5, "z=192.0.2.4")];
    let mut numbers = [30, 10, 20, 99].into_iter();
    let random = || numbers.next().unwrap();
    let order = exchanges(&domain("d.test"), found(&list), &own(), AddressOrder::default(), random).unwrap();
    let order: Vec<_> = order.iter().map(|e| e.host.as_str()).collect();
    assert_eq!(order, ["z", "b", "c", "a"]);
}

#[test]
fn the_families_take_turns_and_one_can_be_left_out() {
    let all: Vec<IpAddr> =
        ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"].iter().map(|a| a.parse().unwrap()).collect();
    let shown = |order: AddressOrder| {
        order.arrange(&all).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(AddressOrder::Ipv6First), "2001:db8::1 192.0.2.1 192.0.2.2 192.0.2.3");
    assert_eq!(shown(AddressOrder::Ipv4First), "192.0.2.1 2001:db8::1 192.0.2.2 192.0.2.3");
    assert_eq!(shown(AddressOrder::Ipv4), "192.0.2.1 192.0.2.2 192.0.2.3");
    assert_eq!(shown(AddressOrder::Ipv6), "2001:db8::1");
}

#[test]
fn a_literal_is_an_address_between_brackets() {
    let read = |text: &str| literal(&domain(text)).map(|address| address.to_string());
    assert_eq!(read("[192.0.2.1]").as_deref(), Some("192.0.2.1"));
    assert_eq!(read("[IPv6:2001:DB8::1]").as_deref(), Some("2001:db8::1"));
    for not in ["192.0.2.1", "[2001:db8::1]", "[192.0.2]", "[ipv6:192.0.2.1]", "[x]", "[]"] {
        assert_eq!(read(not), None, "{not}");
    }
}

#[test]
fn each_fault_has_its_class() {
    let said = |fault: MxFault| fault.reply(&domain("d.test")).to_string();
    assert!(said(MxFault::NoDomain).starts_with("550 5.1.2 d.test: "));
    assert!(said(MxFault::NoHost).starts_with("550 5.1.2 "));
    assert!(said(MxFault::Null).starts_with("556 5.1.10 "));
    assert!(said(MxFault::Loop).starts_with("554 5.4.6 "));
    assert!(said(MxFault::NoAddress).starts_with("550 5.4.4 "));
    assert!(said(MxFault::Unknown("x".to_owned())).starts_with("451 4.4.3 "));
}
