#include "demo/places.hpp"

#include <array>

namespace hourz::demo {
namespace {

constexpr auto bangkok = City::bangkok;
constexpr auto chiang_mai = City::chiang_mai;
constexpr auto phuket = City::phuket;

// The first is where the helper to log in with lives.
constexpr std::array dense{
    Place{"Siam", "สยาม", bangkok, "Pathum Wan", "Bangkok", "10330", {13.7456, 100.5341}, 900, 10},
    Place{"Ari", "อารีย์", bangkok, "Phaya Thai", "Bangkok", "10400", {13.7797, 100.5446}, 900, 9},
    Place{"Thong Lo", "ทองหล่อ", bangkok, "Watthana", "Bangkok", "10110", {13.7303, 100.5815}, 1000, 10},
    Place{"Ekkamai", "เอกมัย", bangkok, "Watthana", "Bangkok", "10110", {13.7245, 100.5852}, 900, 7},
    Place{"Phrom Phong", "พร้อมพงษ์", bangkok, "Khlong Toei", "Bangkok", "10110", {13.7305, 100.5697}, 800, 8},
    Place{"Asok", "อโศก", bangkok, "Watthana", "Bangkok", "10110", {13.7370, 100.5603}, 800, 9},
    Place{"Nana", "นานา", bangkok, "Watthana", "Bangkok", "10110", {13.7405, 100.5553}, 700, 5},
    Place{"Phloen Chit", "เพลินจิต", bangkok, "Pathum Wan", "Bangkok", "10330", {13.7430, 100.5489}, 700, 5},
    Place{"Silom", "สีลม", bangkok, "Bang Rak", "Bangkok", "10500", {13.7285, 100.5330}, 900, 9},
    Place{"Sathon", "สาทร", bangkok, "Sathon", "Bangkok", "10120", {13.7190, 100.5310}, 1000, 8},
    Place{"Victory Monument", "อนุสาวรีย์ชัย", bangkok, "Ratchathewi", "Bangkok", "10400", {13.7628, 100.5371}, 900, 7},
    Place{"Rama 9", "พระราม 9", bangkok, "Huai Khwang", "Bangkok", "10310", {13.7583, 100.5651}, 1000, 8},
    Place{"Huai Khwang", "ห้วยขวาง", bangkok, "Huai Khwang", "Bangkok", "10310", {13.7786, 100.5738}, 1000, 7},
    Place{"Lat Phrao", "ลาดพร้าว", bangkok, "Chatuchak", "Bangkok", "10900", {13.8065, 100.5737}, 1200, 9},
    Place{"Mo Chit", "หมอชิต", bangkok, "Chatuchak", "Bangkok", "10900", {13.8025, 100.5538}, 1000, 6},
    Place{"Kaset", "เกษตร", bangkok, "Chatuchak", "Bangkok", "10900", {13.8423, 100.5773}, 1100, 6},
    Place{"Bang Na", "บางนา", bangkok, "Bang Na", "Bangkok", "10260", {13.6681, 100.6106}, 1200, 8},
    Place{"Udom Suk", "อุดมสุข", bangkok, "Bang Na", "Bangkok", "10260", {13.6799, 100.6105}, 900, 5},
    Place{"On Nut", "อ่อนนุช", bangkok, "Suan Luang", "Bangkok", "10250", {13.7056, 100.6040}, 1000, 8},
    Place{"Phra Khanong", "พระโขนง", bangkok, "Khlong Toei", "Bangkok", "10110", {13.7153, 100.5912}, 800, 6},
    Place{"Ramkhamhaeng", "รามคำแหง", bangkok, "Bang Kapi", "Bangkok", "10240", {13.7557, 100.6205}, 1100, 7},
    Place{"Bang Kapi", "บางกะปิ", bangkok, "Bang Kapi", "Bangkok", "10240", {13.7657, 100.6443}, 1100, 6},
    Place{"Yaowarat", "เยาวราช", bangkok, "Samphanthawong", "Bangkok", "10100", {13.7410, 100.5090}, 700, 5},
    Place{"Khao San", "ข้าวสาร", bangkok, "Phra Nakhon", "Bangkok", "10200", {13.7585, 100.4990}, 700, 4},
    Place{"Wongwian Yai", "วงเวียนใหญ่", bangkok, "Thon Buri", "Bangkok", "10600", {13.7240, 100.4930}, 900, 6},
    Place{"Charoen Nakhon", "เจริญนคร", bangkok, "Khlong San", "Bangkok", "10600", {13.7240, 100.5060}, 700, 5},
    Place{"Pin Klao", "ปิ่นเกล้า", bangkok, "Bangkok Noi", "Bangkok", "10700", {13.7776, 100.4764}, 1000, 6},
    Place{"Bang Khae", "บางแค", bangkok, "Bang Khae", "Bangkok", "10160", {13.7120, 100.4224}, 1200, 5},
    Place{"Don Mueang", "ดอนเมือง", bangkok, "Don Mueang", "Bangkok", "10210", {13.9213, 100.5960}, 1200, 4},
    Place{"Min Buri", "มีนบุรี", bangkok, "Min Buri", "Bangkok", "10510", {13.8130, 100.7310}, 1200, 4},
    Place{"Nimman", "นิมมาน", chiang_mai, "Mueang Chiang Mai", "Chiang Mai", "50200", {18.7999, 98.9679}, 800, 8},
    Place{"Chiang Mai Old City",
          "เมืองเก่าเชียงใหม่",
          chiang_mai,
          "Mueang Chiang Mai",
          "Chiang Mai",
          "50200",
          {18.7883, 98.9873},
          800,
          6},
    Place{"Santitham", "สันติธรรม", chiang_mai, "Mueang Chiang Mai", "Chiang Mai", "50300", {18.8033, 98.9800}, 700, 5},
    Place{"Chang Khlan", "ช้างคลาน", chiang_mai, "Mueang Chiang Mai", "Chiang Mai", "50100", {18.7802, 99.0005}, 900, 4},
    Place{"Suthep", "สุเทพ", chiang_mai, "Mueang Chiang Mai", "Chiang Mai", "50200", {18.7960, 98.9560}, 900, 5},
    Place{"Phuket Old Town", "เมืองเก่าภูเก็ต", phuket, "Mueang Phuket", "Phuket", "83000", {7.8847, 98.3886}, 900, 6},
    Place{"Patong", "ป่าตอง", phuket, "Kathu", "Phuket", "83150", {7.8961, 98.3035}, 700, 6},
    Place{"Kata", "กะตะ", phuket, "Mueang Phuket", "Phuket", "83100", {7.8203, 98.3045}, 500, 4},
    Place{"Karon", "กะรน", phuket, "Mueang Phuket", "Phuket", "83100", {7.8465, 98.2995}, 450, 3},
    Place{"Rawai", "ราไวย์", phuket, "Mueang Phuket", "Phuket", "83130", {7.7830, 98.3230}, 600, 3},
    Place{"Choeng Thale", "เชิงทะเล", phuket, "Thalang", "Phuket", "83110", {7.9930, 98.3050}, 900, 4},
};

constexpr std::array wide{
    Place{"Nonthaburi", "นนทบุรี", bangkok, "Mueang Nonthaburi", "Nonthaburi", "11000", {13.8600, 100.5140}, 4500, 9},
    Place{"Pak Kret", "ปากเกร็ด", bangkok, "Pak Kret", "Nonthaburi", "11120", {13.9100, 100.5080}, 4500, 7},
    Place{"Rangsit", "รังสิต", bangkok, "Thanyaburi", "Pathum Thani", "12130", {13.9860, 100.6170}, 5500, 8},
    Place{"Sai Mai", "สายไหม", bangkok, "Sai Mai", "Bangkok", "10220", {13.9190, 100.6460}, 4500, 6},
    Place{"Bueng Kum", "บึงกุ่ม", bangkok, "Bueng Kum", "Bangkok", "10240", {13.7950, 100.6600}, 4000, 6},
    Place{"Nong Chok", "หนองจอก", bangkok, "Nong Chok", "Bangkok", "10530", {13.8450, 100.8420}, 6500, 3},
    Place{"Lat Krabang", "ลาดกระบัง", bangkok, "Lat Krabang", "Bangkok", "10520", {13.7270, 100.7660}, 5500, 6},
    Place{"Prawet", "ประเวศ", bangkok, "Prawet", "Bangkok", "10250", {13.7070, 100.6840}, 4000, 6},
    Place{"Bang Phli", "บางพลี", bangkok, "Bang Phli", "Samut Prakan", "10540", {13.6150, 100.7060}, 5500, 6},
    Place{"Samut Prakan",
          "สมุทรปราการ",
          bangkok,
          "Mueang Samut Prakan",
          "Samut Prakan",
          "10270",
          {13.6150, 100.6200},
          4500,
          7},
    Place{"Rat Burana", "ราษฎร์บูรณะ", bangkok, "Rat Burana", "Bangkok", "10140", {13.6820, 100.5050}, 4000, 5},
    Place{"Bang Khun Thian", "บางขุนเทียน", bangkok, "Bang Khun Thian", "Bangkok", "10150", {13.6560, 100.4360}, 5000, 5},
    Place{"Taling Chan", "ตลิ่งชัน", bangkok, "Taling Chan", "Bangkok", "10170", {13.7800, 100.4360}, 4500, 5},
    Place{
        "Phutthamonthon", "พุทธมณฑล", bangkok, "Phutthamonthon", "Nakhon Pathom", "73170", {13.7900, 100.3250}, 5500, 3},
    Place{"Bang Bua Thong", "บางบัวทอง", bangkok, "Bang Bua Thong", "Nonthaburi", "11110", {13.9150, 100.4100}, 5500, 4},
    Place{"Hang Dong", "หางดง", chiang_mai, "Hang Dong", "Chiang Mai", "50230", {18.7100, 98.9350}, 4000, 4},
    Place{"San Sai", "สันทราย", chiang_mai, "San Sai", "Chiang Mai", "50210", {18.8480, 99.0430}, 4500, 4},
    Place{"Mae Rim", "แม่ริม", chiang_mai, "Mae Rim", "Chiang Mai", "50180", {18.9140, 98.9540}, 4000, 2},
    Place{"San Kamphaeng", "สันกำแพง", chiang_mai, "San Kamphaeng", "Chiang Mai", "50130", {18.7450, 99.1200}, 4500, 2},
    Place{"Saraphi", "สารภี", chiang_mai, "Saraphi", "Chiang Mai", "50140", {18.7130, 99.0360}, 4000, 2},
    Place{"Kathu", "กะทู้", phuket, "Kathu", "Phuket", "83120", {7.9150, 98.3470}, 2200, 4},
    Place{"Thalang", "ถลาง", phuket, "Thalang", "Phuket", "83110", {8.0300, 98.3350}, 3000, 3},
    Place{"Chalong", "ฉลอง", phuket, "Mueang Phuket", "Phuket", "83130", {7.8500, 98.3480}, 1700, 3},
};

}  // namespace

std::span<const Place> dense_places() { return dense; }
std::span<const Place> wide_places() { return wide; }

}  // namespace hourz::demo
