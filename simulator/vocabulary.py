"""Topics of the world and the words that posts about them use."""

from typing import Final, NamedTuple


class Words(NamedTuple):
    """The words of one topic: things that posts speak of, and what people do with them."""

    things: tuple[str, ...]
    doings: tuple[str, ...]


_LINES: Final = """
cooking | cast iron pan, risotto, chilli oil, kimchi, dumplings, stock pot, pickled onions, \
ramen broth, spice rack, roast chicken, fish sauce, weeknight curry, miso glaze, knife skills \
| braising short ribs, caramelising onions, seasoning the wok, tasting as I go, cooking for ten
baking | sourdough, starter, croissants, rye loaf, banneton, puff pastry, cinnamon buns, brioche, \
oven spring, crumb, shortbread, cheesecake, dough hook, custard tarts \
| proofing overnight, laminating dough, feeding the starter, scoring the loaf, weighing flour
football | back four, penalty shootout, transfer window, derby, corner routine, goalkeeper, \
midfield press, relegation battle, offside line, hat trick, bench, away end, cup draw, winger \
| pressing high, playing out from the back, defending set pieces, watching the replay
basketball | point guard, box score, pick and roll, fast break, three pointer, playoffs, rebound, \
zone defence, buzzer beater, rookie, draft pick, triple double, shot clock, bench unit \
| switching every screen, crashing the boards, running in transition, shooting free throws
running | marathon, tempo run, long run, intervals, trail shoes, parkrun, negative split, cadence, \
half marathon, hill repeats, foam roller, taper week, race number, zone two \
| building mileage, pacing the last mile, running before work, coming back from injury
cycling | gravel bike, chainring, peloton, sprint finish, bib shorts, hairpin climb, power meter, \
tubeless tyres, bike lane, commuter bike, derailleur, time trial, headwind, café stop \
| truing a wheel, climbing in the rain, commuting by bike, bleeding the brakes
hiking | ridge trail, summit, trig point, rucksack, switchbacks, bothy, waterproofs, contours, \
national park, hut, trekking poles, sunrise hike, scree slope, map and compass \
| packing light, camping above the tree line, reading the weather, crossing the river
travel | night train, hostel, visa queue, window seat, old town, ferry, carry-on, border crossing, \
street market, airport lounge, rail pass, island, guesthouse, phrasebook \
| travelling solo, missing the connection, packing one bag, haggling badly
photography | aperture, film roll, golden hour, wide lens, darkroom, portrait, tripod, shutter, \
street scene, light meter, negatives, raw file, contact sheet, long exposure \
| developing at home, chasing the light, editing the series, shooting on film
gardening | tomato seedlings, compost, raised bed, slugs, pruning saw, sweet peas, greenhouse, \
mulch, garlic bulbs, dahlias, water butt, seed swap, runner beans, hydrangea \
| potting on, turning the compost, sowing under cover, saving seed
music | synthesiser, drum machine, bassline, vinyl, mixtape, chord progression, live set, chorus, \
cassette, guitar pedal, string section, demo track, sample pack, B-side \
| recording vocals, tuning by ear, mixing the low end, rehearsing with the band
film | director's cut, long take, soundtrack, matinee, screenplay, close-up, subtitles, noir, \
festival premiere, cinematographer, third act, sequel, restoration, title sequence \
| rewatching the trilogy, sitting through the credits, storyboarding, arguing about the ending
books | paperback, debut novel, library card, short stories, footnotes, translation, narrator, \
book club, first edition, memoir, plot twist, reading list, second-hand bookshop, epilogue \
| reading before bed, annotating margins, rereading the classics, finishing the series
gaming | boss fight, speedrun, skill tree, co-op campaign, patch notes, controller, roguelike, \
save file, side quest, indie game, frame rate, level design, open world, arcade cabinet \
| grinding for loot, learning the parry, beating the final level, modding
boardgames | worker placement, deck builder, dice tower, expansion, rulebook, meeples, solo mode, \
game night, hex map, auction phase, card sleeves, legacy box, victory points, co-op scenario \
| teaching the rules, drafting cards, sleeving the deck, counting the score twice
programming | type checker, race condition, pull request, compiler, unit test, regex, terminal, \
legacy code, stack trace, dependency, query planner, refactor, build cache, debugger \
| bisecting the bug, deleting code, profiling the hot loop, reviewing patches
datascience | feature store, regression, confidence interval, notebook, outliers, dashboard, \
holdout set, gradient boosting, embedding, sampling bias, data leak, calibration, time series \
| cleaning the columns, plotting residuals, tuning the model, joining as of
electronics | soldering iron, breadboard, oscilloscope, microcontroller, resistor, capacitor, \
circuit board, sensor, voltage regulator, LED strip, firmware, logic analyser, 3D printer \
| desoldering the chip, flashing firmware, tracing the short, wiring the panel
astronomy | telescope, nebula, meteor shower, dark sky site, Saturn, eyepiece, light pollution, \
lunar eclipse, star chart, galaxy cluster, comet, star trails, equatorial mount, supernova \
| stacking exposures, polar aligning, waiting for clear skies, sketching the moon
biology | field notes, moss, pond life, microscope, mycelium, migration, tide pool, pollinators, \
lichen, genome, bird ringing, wetland, species list, fungi \
| counting butterflies, pressing leaves, sampling the stream, identifying beetles
economics | inflation, interest rate, housing supply, labour market, trade deficit, price index, \
central bank, productivity, bond yield, minimum wage, tax credit, supply chain, recession \
| reading the minutes, revising the forecast, comparing price levels, questioning the model
history | archive, letters, trade route, siege, manuscript, census, canal, parish records, \
oral history, medieval map, empire, treaty, shipwreck, hill fort \
| digging in the archive, transcribing letters, tracing a family, dating the ruin
fitness | deadlift, kettlebell, rest day, pull-ups, squat rack, mobility, protein, warm-up, \
training block, rowing machine, plank, grip strength, personal best, foam mat \
| adding five kilos, fixing my form, deloading, stretching every morning
parenting | nap schedule, school run, packed lunch, bedtime story, toddler, lost sock, playground, \
baby monitor, growth spurt, picture book, finger paint, sleepover, nursery, first steps \
| negotiating with a toddler, batch cooking, surviving on coffee, building the fort
"""


def _parse(lines: str) -> dict[str, Words]:
    words = {}
    for line in lines.strip().splitlines():
        name, things, doings = (part.strip() for part in line.split("|"))
        split = (tuple(w.strip() for w in part.split(",")) for part in (things, doings))
        words[name] = Words(*split)
    return words


TOPICS: Final = _parse(_LINES)
"""Topic name -> its words; the order is the topic's number."""

TOPIC_NAMES: Final = tuple(TOPICS)
