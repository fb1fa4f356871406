//! Words around names: first names, and the capitalised words that are none.

use crate::tokens::{Vocabulary, expanded, folded};
use std::sync::LazyLock;

/// First names that are hardly anything else, of people who live in Germany or write English.
const GIVEN: &str = "
    Aaron Abdul Abdullah Achim Adam Adrian Agnes Agnieszka Ahmad Ahmed Ahmet Aisha Alan Albert Aleksandar Alessandro
    Alexander Alexandra Alfred Ali Alice Alina Aljoscha Alwin Amanda Amelie Amina Amir Amy Ana Anastasia Andrea
    Andreas Andrew Andrij Andrzej Angela Angelika Anita Anja Anke Anna Annalena Anne Anneke Anneliese Annette Annika
    Ansgar Anthony Antje Anton Antonia Antonio Arne Arnold Arthur Artur Astrid Axel Aylin Ayse Ayşe Barbara Beate
    Beatrix Ben Benedikt Benjamin Bernd Bernhard Bettina Betty Birgit Birgitta Birte Björn Bodo Boris Brian Brigitte
    Britta Bruno Burak Burkhard Bärbel Carla Carlos Carmen Carmina Carol Carolin Caroline Carsten Catherine Cem
    Charles Charlotte Chiara Chloe Christa Christel Christian Christiane Christina Christine Christoph Christopher
    Clara Claudia Claus Clemens Constanze Cornelia Cristina Dagmar Daniel Daniela David Deborah Denis Deniz Dennis
    Detlef Dieter Dietmar Dietrich Dirk Dmitri Dominik Dominique Donald Donatus Dorothea Dorothee Dörte Eckhard
    Edeltraud Edgar Edith Eduard Edward Egon Elena Elfriede Elias Elif Elisabeth Elizabeth Elke Ella Ellen Elsa
    Elvira Emil Emilia Emily Emine Emir Emma Emre Enno Enrico Eric Erich Erik Erika Ernestine Erwin Esra Esther
    Ethan Eugen Eva Evelyn Fabian Fatima Fatma Felicitas Felix Ferdinand Fiona Florence Florian Francesca Francesco
    Frank Franz Franziska Frauke Freddy Friederike Friedrich Fritz Gabriel Gabriele Gary Georg George Gerald Gerd
    Gerda Gerhard Gerlinde Gertrud Gesa Gisela Gitta Giulia Giuseppe Gottfried Gottlieb Gregor Greta Grzegorz Gudrun
    Guido Gunnar Gustav Gül Günter Günther Hakan Halil Hanna Hannah Hanne Hannelore Hannes Hans Harald Harry Hartmut
    Hasan Hassan Hatice Hedwig Heidemarie Heidi Heike Heiko Heiner Heinrich Heinz Helen Helena Helga Helge Helmut
    Helmuth Hendrik Henning Henri Henriette Henry Herbert Hermann Hermine Hilde Hildegard Hinnerk Holger Horst
    Hubert Hugo Hüseyin Ibrahim Ida Ilona Ilse Imke Ines Inga Inge Ingeborg Ingo Ingrid Insa Irene Irina Iris Irmela
    Irmgard Iryna Isabel Isabella Ismail Ivan Jacob Jacqueline Jakob James Jan Jana Janina Janine Jasmin Jason
    Jeffrey Jennifer Jens Jeremy Jessica Joachim Joanna Jochen Johann Johanna Johannes John Jonas Jonathan Joost
    Josef Joseph Joshua Judith Julia Julian Juliane Justin Jutta Jörg Jörn Jürgen Kai Karen Karim Karin Karina Karl
    Karla Karlheinz Karolina Karsten Katarina Katarzyna Katharina Kathrin Katja Katrin Kemal Kenneth Kerstin Kevin
    Khaled Kim Kirsten Kirstin Klara Klaus Konrad Konstantin Kristin Kristina Krzysztof Kurt Larissa Lars Laura Lea
    Lena Leon Leonard Leonie Leopold Levin Leyla Liam Liesel Lieselotte Lina Linda Lisa Logan Lorena Lorenz Lothar
    Louis Louisa Louise Luca Lucas Lucia Ludwig Luis Luisa Luise Lukas Lutz Lydia Magdalena Maja Malte Mandy Manfred
    Manuel Manuela Marcel Marco Marcus Mareike Margaret Margarete Margarethe Margit Margot Maria Marianne Marie
    Marina Mario Marion Marit Marius Markus Marlene Marlies Martha Martin Martina Marvin Mary Mateusz Mathias
    Mathilde Matteo Matthew Matthias Max Maximilian Małgorzata Mechthild Mehmet Melanie Melissa Merle Mert Meryem
    Mia Michael Michaela Michał Michelle Mika Mike Mila Milena Miriam Mirjam Mohamed Mohammad Mohammed Monika Moritz
    Muhammad Murat Mustafa Mykola Nadine Nadja Nancy Natalia Natalie Natascha Nele Nicholas Nico Nicola Nicolas
    Nicole Niklas Nils Nina Noah Nora Norbert Nuri Oksana Olaf Ole Oleksandr Olena Olga Oliver Olivia Orhan Ortrud
    Oskar Osman Othmar Ottilie Otto Pamela Patricia Patrick Paul Paula Pauline Paweł Peter Petra Philip Philipp Pia
    Piotr Rachel Rafael Raimund Rainer Ralf Ralph Ramona Raphael Rebecca Regina Reiner Reinhard Reinhold Renate René
    Ricardo Richard Rita Robert Roberto Robin Rodney Roland Rolf Roman Ronald Rosa Rosel Rosemarie Rosi Roswitha
    Roya Rudi Rudolf Ruth Ryan Rüdiger Sabine Sabrina Sam Samantha Samuel Sandra Sara Sarah Sascha Saskia Scott Sean
    Sebastian Selin Selma Sergej Sevgi Sharon Sibylle Siegfried Siegmund Sigrid Silke Silvia Silvio Simon Simone
    Sina Sofia Sofie Sonja Sophia Sophie Stefan Stefanie Steffen Stella Stephan Stephanie Stephen Steven Sunita
    Susan Susanna Susanne Sven Svenja Svetlana Swantje Sylvia Sönke Tamara Tanja Tarik Tatjana Ted Teresa Theo
    Theodor Theresa Thilo Thomas Thorsten Tilman Tim Timm Timo Timothy Tina Tobias Tom Tomasz Torben Torge Torsten
    Tyler Udo Ulf Ulla Ulrich Ulrike Umut Ursula Uta Ute Uwe Valentina Vanessa Vera Verena Veronika Victor Viktor
    Viktoria Vincent Vladimir Volker Volkmar Volodymyr Walter Waltraud Wanda Wencke Werner Wiebke Wilfried Wilhelm
    William Wiltrud Winfried Wojciech Wolfgang Wolfram Xaver Yannick Yasemin Yasmin Yulia Yusuf Yvonne Zehra Zeynep
    Özlem";

/// First names that are other words as well: they count after a title or a greeting only.
const ALSO_WORDS: &str = "
    Amber Angel April Art August Aurora Austin Autumn Bill Chase Chelsea Crystal Daisy Dawn Dean Dallas Ernst Falk
    Faith Felicity Flora Fred Georgia Gloria Grace Grant Guy Heather Heide Hope Ivy Jack Jasmine Jordan Joy June
    Lance Laurel Lily Linus Lou Madison Mark Marlon May Mercedes Melody Pat Paris Penny Phoenix Pearl Ray Rich Rob
    Rose Ruby Sky Sue Summer Sydney Victoria Viola Violet Virginia Will Wolf Woody";

/// Capitalised words that are no names of people: what stands next to names, begins sentences or is a noun of the day.
const OTHERS: &str = "
    aber alle alles als also am an antrag anfang angst anmeldung anruf arbeit auch auf aus autor bad bahnhof bank
    bei beispiel berlin bescheid bitte brief bruder buch bundestag bundesrat bußgeld büro chef computer da daher
    damen dame danach danke dann darf das dass dein deine deinen dem den der des deutsch deutsche deutschland die
    dies diese dieser doch dort dr durch ehe ein eine einen einer eltern email ende er es essen europa eur euro fax
    fall fehler fest firma foto frage fragen frau frauen für geburtstag geld gericht gern geschenk geschichte gesetz
    gmbh gott grüße gruß gute guten gymnasium hab habe hat haus hause haushalt heimat herr herren herrn heute hier
    hilfe hobby hof hotel hund hunger ich ihm ihn ihnen ihr ihre ihren im in internet ist ja jahr jahre jede jeder
    kann kein keine kind kinder kirche klasse kollege kollegen kollegin kontakt konto krankenhaus kunde kunden
    kundin land lehrer leben leid leute liebe lieber link lust mai mail man mann mein meine meinen mensch menschen
    miete mit mitarbeiter mittag montag dienstag mittwoch donnerstag freitag samstag sonntag januar februar märz
    april juni juli august september oktober november dezember morgen mutter nach nachbar nachricht nacht name nein
    nicht noch nun nummer ob oder online ort panik partei partner pause person platz plan polizei post probleme
    problem projekt rathaus recht rechnung regel reise ring sache schade schloss schmerzen schule schwester sehr
    sein seine seit sich sie sind so sohn sorgen sport stadt stelle steuer steuern stiftung straße strasse stress
    student tag tage tante teil telefon termin test text tochter uhr um und uns unser unterlagen urlaub vater verein
    verlag vertrag viel viele vom von vor wann war warum was wasser weg weil weiter welche wenn wer wetter wie wir
    wissen wo woche wohnung wort zahl zeit zeitung zimmer zu zum zur zustimmung zwei abteilung admin administrator
    agentur amt apotheke arzt ärztin aufgabe auto behörde beruf a about after again all and any are area as ask at
    attached avenue award bay because before best birthday block board book box boulevard bridge brother but by call
    can card case cc center centre check church city class click client college company contact council county court
    customer daughter days dear department did director do does english ever every family father file for foundation
    friday from full further garden german get go god good great group had has have he hello help her here hi high
    his home hospital house how i if inc info institute is island it its january february march june july october
    december just law letter library like limited line list llc ltd manager market may me meeting message monday
    more mother mountain mr mrs ms museum my new next no north not note now of office ok on one open or order our
    party phone place plaza please point present prize product project queen question re regards report river road
    room said sales saturday say school see service she should sir sister son south spring square st start state
    station street subject sunday support system team thank thanks that the their then there these they thing this
    those thursday time to today tower town travel tuesday uncle union university up us user very village we
    wednesday week welcome well east what when where which who why will with world would yes yesterday you your
    sankt programm democratic demokratische demokratischen achtung meinung leitung haltung lage nebenan ganz lake
    lane day page park";

/// Of those, the ones that are surnames as well: they count right after a title.
const ALSO_SURNAMES: &str = "
    bach bank card church day english ende frost freitag friend good great gross hof hund hunger kind king lake land lane law
    leid long lust mann may montag morgen page park person recht ring sonntag spring square street sorgen vogt weg";

/// What makes a name that stands before it a place's: `Karl Marx Straße`.
const PLACES: &str = "
    straße strasse str platz weg allee ring ufer damm schule grundschule gesamtschule realschule gymnasium stiftung haus
    kirche halle brücke park stadion flughafen universität hochschule institut museum krankenhaus klinikum preis stadt verlag
    gmbh ag kg ev street road avenue boulevard lane square bridge airport station university school college hospital library
    museum foundation institute prize award stadium tower hall inc ltd llc corp";

/// Ends of nouns that are hardly ever those of a surname.
const NOUN_ENDS: &str = "
    heit heiten keit keiten schaft schaften tion tionen taet taeten ismus ungen antrag antraege bescheid bescheide
    amt geld strasse schein karte vertrag schreiben nummer termin stelle frist bericht formular akte unterlagen
    verfahren steuer";

/// Ends of words for what people are: `Bürgermeisterin`.
const ROLE_ENDS: &str = "
    buergermeister buergermeisterin praesident praesidentin minister ministerin kanzler kanzlerin direktor
    direktorin rat raetin leiter leiterin sekretaer sekretaerin anwalt anwaeltin richter richterin professor
    professorin doktor doktorin kollege kollegin vorsitzende vorsitzender beauftragte pfarrer";

static GIVEN_NAMES: LazyLock<Vocabulary> = LazyLock::new(|| words(GIVEN));
static UNSURE_NAMES: LazyLock<Vocabulary> = LazyLock::new(|| words(ALSO_WORDS));
static NO_NAMES: LazyLock<Vocabulary> = LazyLock::new(|| words(OTHERS));
static SURNAMES: LazyLock<Vocabulary> = LazyLock::new(|| words(ALSO_SURNAMES));
static NOUN: LazyLock<Vec<&str>> = LazyLock::new(|| NOUN_ENDS.split_whitespace().collect());
static ROLE: LazyLock<Vec<&str>> = LazyLock::new(|| ROLE_ENDS.split_whitespace().collect());
static PLACE_WORDS: LazyLock<Vocabulary> = LazyLock::new(|| words(PLACES));

fn words(list: &str) -> Vocabulary {
    list.split_whitespace().map(key).collect()
}

fn key(word: &str) -> String {
    let folded = folded(word);
    if folded.is_ascii() { folded } else { expanded(&folded) }
}

/// The first part of `Hans-Peter`; what such a name is known by.
fn first_part(word: &str) -> &str {
    word.split('-').next().unwrap_or(word)
}

/// First names that [`is_given`] knows, as they are compared.
pub(super) fn given() -> impl Iterator<Item = &'static str> {
    GIVEN_NAMES.words()
}

/// A first name and hardly anything else.
pub(super) fn is_given(word: &str) -> bool {
    let part = first_part(word);
    GIVEN_NAMES.passes(part) && GIVEN_NAMES.contains(&key(part))
}

/// A first name, perhaps another word as well.
pub(super) fn may_be_given(word: &str) -> bool {
    is_given(word) || UNSURE_NAMES.contains(&key(first_part(word)))
}

/// A word that goes on after `beginning` may be a first name.
pub(super) fn begins_given(beginning: &str) -> bool {
    is_given(beginning) && beginning.contains('-') || GIVEN_NAMES.may_become(&key(beginning))
}

/// A capitalised word that is not a part of a name.
pub(super) fn is_other(word: &str) -> bool {
    NO_NAMES.contains(&key(word)) || word.rsplit('-').next().is_some_and(is_place)
}

/// A capitalised word that is a surname where a title says so.
pub(super) fn may_be_surname(word: &str) -> bool {
    SURNAMES.contains(&key(word))
}

/// What makes a name that stands before it a place's.
pub(super) fn is_place(word: &str) -> bool {
    PLACE_WORDS.contains(&key(word))
}

/// By its form more likely a German noun than a surname.
pub(super) fn is_nounlike(word: &str) -> bool {
    let key = key(word);
    // Jung and Hartung are surnames, Achtung is none.
    let ung = key.len() > 7 && key.ends_with("ung");
    ung || NOUN.iter().any(|end| key.len() > end.len() && key.ends_with(end))
}

/// What somebody is, as it stands between title and name: `Frau Bürgermeisterin Weber`.
pub(super) fn is_role(word: &str) -> bool {
    let key = key(word);
    // Richter and Rath are surnames, Amtsrichter and Landrat are none.
    ROLE.iter().any(|end| key.ends_with(end) && (key.len() > end.len() + 1 || !matches!(*end, "rat" | "richter")))
}

#[cfg(test)]
mod tests {
    use super::{ALSO_WORDS, GIVEN, begins_given, is_given, is_nounlike, is_other, is_place, is_role, may_be_given, words};

    #[test]
    fn lists_say_what_they_are_for() {
        assert!(is_given("Jörg") && is_given("Joerg") && is_given("Hans-Peter") && !is_given("Mark") && may_be_given("Mark"));
        assert!(begins_given("Jo") && begins_given("Hans-P") && !begins_given("Hansx") && !begins_given("Xq"));
        assert!(is_other("Antrag") && is_other("Weber-Straße") && !is_other("Weber") && is_place("Straße"));
        assert!(is_nounlike("Achtungen") && is_nounlike("Wohngeldantrag") && is_nounlike("Zulassung"));
        for surname in ["Jung", "Hartung", "Albrecht", "Freund", "Stein", "Kaplan", "Weber"] {
            assert!(!is_nounlike(surname), "{surname}");
        }
        assert!(is_role("Oberbürgermeisterin") && is_role("Stadtrat") && !is_role("Rat") && !is_role("Richter") && !is_role("Weber"));
    }

    #[test]
    fn first_names_are_known_in_any_case_and_spelling() {
        for name in GIVEN.split_whitespace() {
            for spelling in [name.to_owned(), name.to_uppercase(), super::key(name), format!("{name}-Peter")] {
                assert!(is_given(&spelling), "{spelling}. If you are here because this failed: names go out unseen.");
            }
        }
    }

    #[test]
    fn no_first_name_is_excluded_by_another_list() {
        let unsure = words(ALSO_WORDS);
        for name in GIVEN.split_whitespace() {
            assert!(!is_other(name), "{name}");
            assert!(!unsure.contains(&super::key(name)), "{name} is in both lists of first names");
        }
    }
}
