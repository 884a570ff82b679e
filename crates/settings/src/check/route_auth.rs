//! `auth` of a route: as whom mail is given to its next hop.

use routing::{Credentials, Target};
use smtp::sasl::Mechanism;

use crate::reader::{At, Reader};

/// The credentials of a route, if it has some.
pub(crate) fn credentials<'a>(
    read: &mut Reader<'a>,
    route: &At<'a>,
    target: Option<&Target>,
) -> Option<Credentials> {
    let at = route.key("auth");
    if !at.is_there() {
        return None;
    }
    // A password is for one server: MX hosts are whoever a recipient's domain names.
    if let Some(target) =
        target.filter(|target| target.next_hop().is_none_or(|hop| hop.is_socket() || hop.is_mx()))
    {
        read.fault(&at, format!("nobody is authenticated with at '{target}'; remove this"));
        return None;
    }
    let name = |text: &str| match text {
        "" => Err("the name is empty; write the user's name at the next hop".to_owned()),
        name if name.contains('\0') => Err("no name has a NUL; remove it".to_owned()),
        name => Ok(name.into()),
    };
    let user = read.required(
        &at.key("user"),
        |read, at| read.parsed(at, name),
        "write the user's name at the next hop",
    );
    let password = read.required(
        &at.key("password"),
        Reader::secret,
        "write '${file:PATH}', '${env:NAME}', or the password itself",
    );
    let mechanism = read.parsed(&at.key("mechanism"), |text| {
        let known = Mechanism::ALL.map(|mechanism| mechanism.name().to_lowercase()).join(", ");
        let found =
            Mechanism::named(text).ok_or_else(|| format!("'{text}' is not known; write one of {known}"))?;
        Ok(found.name().into())
    });
    let in_clear = read.flag(&at.key("in_clear")).unwrap_or(false);
    Some(Credentials { user: user?, password: password?, mechanism, in_clear })
}

#[cfg(test)]
mod tests {
    use crate::{Environment, Source, parse};

    fn parsed(auth: &str) -> Result<String, String> {
        let text = format!(
            "cluster: {{ id: c }}\nnode: {{ id: a }}\nlisteners: [ {{ address: 127.0.0.1:25 }} ]\n\
             routes: [ {{ match: '*', next_hop: h, auth: {auth} }} ]\n"
        );
        let source = Source { path: "/etc/m.yaml".into(), text };
        let settings = parse(&[source], &Environment::default());
        settings
            .map(|settings| {
                let route = settings.routes.iter().next().unwrap();
                format!("{:?}", route.target.next_hop().unwrap().credentials().unwrap())
            })
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn credentials_are_read_and_never_shown() {
        let shown = parsed("{ user: u, password: open }").unwrap();
        assert!(shown.contains("(not shown)") && !shown.contains("open"), "{shown}");
        let shown = parsed("{ user: u, password: '${file:pw}', mechanism: login, in_clear: true }").unwrap();
        assert!(shown.contains("${file:/etc/pw}") && shown.contains("LOGIN"), "{shown}");
    }

    #[test]
    fn faults_of_credentials_are_told_without_the_secret() {
        let told = parsed("{ user: '', password: '${vault:key}', mechanism: x }").unwrap_err();
        assert!(told.contains("routes[0].auth.user: the name is empty"), "{told}");
        assert!(told.contains("write '${file:PATH}', '${env:NAME}'") && !told.contains("key"), "{told}");
        assert!(told.contains("routes[0].auth.mechanism: 'x' is not known"), "{told}");
        assert!(parsed("{}").unwrap_err().contains("auth.password: missing"));
    }
}
